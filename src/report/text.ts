/** Plain-text tables. */

import { escapeControls } from "../files/json.js";

/** Pads columns to their widest cell; the columns in `right` are right-aligned. Control characters are escaped: names come from files. */
export function formatTable(
  head: readonly string[],
  cells: readonly (readonly string[])[],
  right: ReadonlySet<number> = new Set(),
): string {
  const rows = cells.map((row) => row.map(escapeControls));
  const widths = head.map((title, c) => Math.max(title.length, ...rows.map((row) => row[c].length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, c) => (right.has(c) ? cell.padStart(widths[c]) : cell.padEnd(widths[c])))
      .join("  ")
      .trimEnd();
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("\n");
}
