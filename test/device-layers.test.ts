/** Some layers on the device and the rest on the CPU: the list, the plan, and what contradicts it. */

import { describe, expect, it } from "vitest";
import { TextModelBuilder, type TopologyRule } from "../src/index.js";
import { parseDeviceLayers } from "../src/model/device-layers.js";

const builder = () => new TextModelBuilder("models/tiny-mistral").withIsq("Q8_0");

describe("the list", () => {
  it("is a number, or pairs", () => {
    expect(parseDeviceLayers("16")).toEqual([{ device: 0, layers: 16 }]);
    expect(parseDeviceLayers(" 0:16 ; 1: 8")).toEqual([
      { device: 0, layers: 16 },
      { device: 1, layers: 8 },
    ]);
  });

  it.each(["", "x", "-1", "1.5", "0:", ":4", "1;2", "0:1;", "0:1;0:2", "0:1,1:2"])("is not %j", (text) => {
    expect(() => parseDeviceLayers(text)).toThrow(expect.objectContaining({ tag: "option/invalid" }));
  });
});

describe("the plan", () => {
  it("has the layers beyond them on the CPU, and what is in no layer where the model is", async () => {
    const { rows } = await builder().withDeviceLayers("2").plan();
    for (const { layer, device } of rows) expect(device).toBe(layer !== null && layer >= 2 ? "cpu" : null);
    const all = await builder().withDeviceLayers("6").plan();
    expect(all.rows.every(({ device }) => device === null)).toBe(true);
  });

  it("follows the device of a rule before that", async () => {
    const topology: TopologyRule[] = [
      { layers: { start: 4, end: 5 }, isq: "Q4K", device: "webgpu" },
      { layers: { start: 5, end: 6 }, isq: "Q4K" },
    ];
    const { rows } = await builder().withTopology(topology).withDeviceLayers("0").plan();
    for (const { layer, device } of rows) {
      expect(device).toBe(layer === 4 ? "webgpu" : layer === null ? null : "cpu");
    }
  });

  it.each([
    ["7", "option/invalid", "the model has 6 layers, and 7 are to be on the device"],
    ["0:3;1:3", "option/unsupported", "there is no device 1"],
  ])("refuses %s", async (layers, tag, message) => {
    await expect(builder().withDeviceLayers(layers).plan()).rejects.toMatchObject({
      tag,
      message: expect.stringContaining(message),
    });
  });
});
