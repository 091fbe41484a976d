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
 * How many layers, from the first, are on the device that the model is put on; the rest is on the CPU. Null where the list is
 * empty. Throws `option/unsupported` for another device than 0, `option/invalid` for more layers than the model has.
 */
export function countDeviceLayers(list: readonly DeviceLayers[], { weights }: Program): number | null {
  const missing = list.find(({ device }) => device !== 0);
  if (missing) {
    const message = `there is no device ${missing.device}: 0 is the one that the model is put on`;
    throw new IsqError("option/unsupported", message, {
      field: "numDeviceLayers",
      value: missing.device,
      limit: [0],
    });
  }
  if (list.length === 0) return null;
  const limit = weights.reduce((most, { layer }) => Math.max(most, (layer ?? -1) + 1), 0);
  const [{ layers }] = list;
  if (layers <= limit) return layers;
  const message = `the model has ${limit} layers, and ${layers} are to be on the device`;
  throw new IsqError("option/invalid", message, { field: "numDeviceLayers", value: layers, limit });
}
