/** Saving: a plan is executed and its tensors go to their places in a GGUF file, in whatever order they come. */

import type { Backend, Tensor } from "./backends/backend.js";
import type { ByteSink } from "./files/gguf-write.js";
import { type GgufExport, type GgufExportOptions, planGguf } from "./gguf-export.js";
import type { OpenedModel } from "./load.js";
import type { Plan, PlanRow } from "./plan.js";
import {
  type QuantizeModelOptions,
  type QuantizeReport,
  quantizeModel,
  type TensorSource,
} from "./quantize.js";

/** Plans the file of a model as `plan` makes it. A head that shares its embedding's data has no tensor. Throws as {@link planGguf}. */
export function planGgufSave(
  { config }: Pick<OpenedModel, "config">,
  plan: Plan,
  options: GgufExportOptions = {},
): GgufExport {
  const own = plan.rows.filter(({ byteLength }) => byteLength > 0);
  const tensors = own.map(({ tensor, type, shape }) => ({ name: tensor, type, shape }));
  return planGguf(config, tensors, options);
}

/**
 * Executes a plan into a file. Every byte of the file is written once; the header first, tensors as the plan has them. Throws
 * as {@link quantizeModel}, and whatever the sink throws.
 */
export async function saveGguf(
  { layout, pieces, targets }: GgufExport,
  plan: Plan,
  source: TensorSource,
  backend: Backend,
  sink: ByteSink,
  options: QuantizeModelOptions = {},
): Promise<QuantizeReport> {
  await sink.write(0, layout.header);
  for (const [index, { byteOffset, byteLength, paddingBytes }] of layout.tensors.entries()) {
    const { parts, make } = pieces[index];
    if (parts.length === 0) await sink.write(byteOffset, make(0));
    if (paddingBytes > 0) await sink.write(byteOffset + byteLength, new Uint8Array(paddingBytes));
  }
  const rows = plan.rows.filter(({ tensor }) => targets.has(tensor));
  const accept = async ({ tensor: name }: PlanRow, tensor: Tensor) => {
    for (const target of targets.get(name) ?? []) await sink.write(target.byteOffset, target.make(tensor));
  };
  return quantizeModel({ ...plan, rows }, source, backend, accept, options);
}
