/** The GPU's part of a page: encoders on hard rows, decoders and products, against the reference in the same page. */

import { reference } from "../../src/backends/reference.js";
import { webgpu } from "../../src/backends/webgpu.js";
import { dequantize, quantize, TYPE_NAMES, TYPES } from "../../src/quants/index.js";
import { compareFloats } from "./compare.js";
import { ENCODERS, gauss, nameOf } from "./encoders.js";
import { compareHardRows } from "./hard-rows.js";

export interface PageReport {
  readonly adapter: string;
  readonly exactness: string;
  readonly checked: number;
  readonly failures: readonly string[];
}

export async function runGpuPage(seed: number, types: readonly string[] = TYPE_NAMES): Promise<PageReport> {
  const backend = await webgpu();
  const failures: string[] = [];
  let checked = 0;
  const note = (what: string, difference: string | undefined) => {
    checked++;
    if (difference !== undefined) failures.push(`${what}: ${difference}`);
  };
  for (const encoder of ENCODERS.filter(({ type }) => types.includes(type))) {
    const rows = { seed, rows: 4, columns: 512 };
    note(nameOf(encoder), (await compareHardRows(backend, quantize, encoder, rows)).difference);
  }
  for (const type of TYPE_NAMES.filter((name) => types.includes(name))) {
    const tensor = quantize(type, gauss(8 * 512, seed), { shape: [8, 512] });
    const decoded = await backend.dequantize(tensor);
    note(`${type} decoded`, compareFloats(decoded, dequantize(tensor)));
    const x = gauss(2 * 512, seed + 1);
    const [actual, wanted] = [await backend.matmul(tensor, x), await reference().matmul(tensor, x)];
    const far = wanted.findIndex((value, i) => !(Math.abs(value - actual[i]) < 1e-5));
    note(`${type} products`, far < 0 ? undefined : `${actual[far]}, not ${wanted[far]}`);
  }
  const report = { adapter: backend.adapter.name, exactness: backend.probe.exactness, checked, failures };
  await backend.dispose();
  return report;
}

/** Whether TYPES is what the page was built with; keeps the table in the bundle. */
export const typeCount = Object.keys(TYPES).length;
