/** One unit in full: its scales, its codes, what they decode to, and how far that is from the source. */

import { element, show, showExactly, table } from "../dom.js";
import type { UnitView } from "./tensor-view.js";

export function unitTables(unit: UnitView): HTMLElement[] {
  const made: HTMLElement[] = [];
  if (unit.scales.length > 0) {
    const rows = unit.scales.map(([name, value]) => [name, showExactly(value)]);
    made.push(table("Scales of the whole block", ["scale", "value"], rows));
  }
  if (unit.subScales.length > 0) made.push(subTable(unit));
  made.push(elementTable(unit));
  if (unit.bytes) {
    const hex = Array.from(unit.bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const bytes = element(
      "details",
      {},
      element("summary", {}, `${unit.bytes.length} bytes`),
      element("code", {}, hex),
    );
    made.push(bytes);
  }
  return made;
}

function subTable({ subScales, subMins }: UnitView): HTMLElement {
  const hasMins = subMins.length > 0;
  const columns = ["sub-block", "scale, stored", "scale", ...(hasMins ? ["minimum, stored", "minimum"] : [])];
  const rows = subScales.map(({ stored, value }, j) => [
    String(j),
    String(stored),
    String(value),
    ...(hasMins ? [String(subMins[j].stored), String(subMins[j].value)] : []),
  ]);
  return table("Scales of the sub-blocks", columns, rows);
}

function elementTable({ elements }: UnitView): HTMLElement {
  const hasCodes = elements.some(({ code }) => code !== undefined);
  const hasSource = elements.some(({ source }) => source !== undefined);
  const columns = [
    "element",
    ...(hasCodes ? ["code, stored", "code"] : []),
    "decoded",
    ...(hasSource ? ["source", "error"] : []),
  ];
  const rows = elements.map(({ index, code, decoded, source }) => [
    String(index),
    ...(hasCodes ? [String(code?.stored), showExactly(code?.value ?? Number.NaN)] : []),
    showExactly(decoded),
    ...(hasSource ? [showExactly(source ?? Number.NaN), show(decoded - (source ?? Number.NaN))] : []),
  ]);
  return table("Elements", columns, rows);
}
