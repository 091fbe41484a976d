/** How many layers go to which device, as mistral.rs writes it: `16`, or `0:16;1:8`. */

import type { Program } from "../backends/program.js";
import { IsqError } from "../errors.js";

export interface DeviceLayers {
  readonly device: number;
  readonly layers: number;
}

/** Parses a list separated by semicolons. Throws `option/invalid` for what is none, and for a device that comes twice. */
export function parseDeviceLayers(text: string): DeviceLayers[] {
  const list = text.split(";").map((item) => {
    const [, device, layers] = /^\s*(?:(\d{1,9})\s*:)?\s*(\d{1,9})\s*$/.exec(item) ?? [];
    if (layers === undefined || (device === undefined && text.includes(";"))) {
      const message = `device layers are a number, or pairs DEVICE:LAYERS separated by semicolons, not ${JSON.stringify(text)}`;
      throw new IsqError("option/invalid", message, { field: "numDeviceLayers", value: text });
    }
    return { device: Number(device ?? 0), layers: Number(layers) };
  });
  const twice = list.find(({ device }, i) => list.findIndex((other) => other.device === device) !== i);
  if (!twice) return list;
  const message = `device ${twice.device} is named twice in ${JSON.stringify(text)}`;
  throw new IsqError("option/invalid", message, { field: "numDeviceLayers", value: text });
}

/**
 * Refuses devices that are not there, and more layers than the model has. Every layer runs on the one device, the CPU, so
 * what is left is where it would be anyway. Throws `option/unsupported`, `option/invalid`.
 */
export function checkDeviceLayers(list: readonly DeviceLayers[], { weights }: Program): void {
  const missing = list.find(({ device }) => device !== 0);
  if (missing) {
    const message = `there is no device ${missing.device}; the only one is 0, the CPU`;
    throw new IsqError("option/unsupported", message, {
      field: "numDeviceLayers",
      value: missing.device,
      limit: [0],
    });
  }
  const limit = weights.reduce((most, { layer }) => Math.max(most, (layer ?? -1) + 1), 0);
  const wanted = list.reduce((sum, { layers }) => sum + layers, 0);
  if (wanted <= limit) return;
  const message = `the model has ${limit} layers, and ${wanted} are to be on the device`;
  throw new IsqError("option/invalid", message, { field: "numDeviceLayers", value: wanted, limit });
}
