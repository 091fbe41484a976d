/** The table of tensors: names are buttons, of which one is in the tab order and the arrow keys reach the others. */

import type { CheckpointEntry } from "../../src/files/checkpoint.js";
import { elementCount } from "../../src/quants/tensor.js";
import { element, table } from "../dom.js";
import { isReadable } from "./tensor-view.js";

/** Fills `place` with the tensors whose names contain `filter`; `open` is called with the one that is chosen. */
export function showTensors(
  place: HTMLElement,
  tensors: Iterable<CheckpointEntry>,
  filter: string,
  open: (entry: CheckpointEntry) => void,
): number {
  const shown = [...tensors].filter(({ name }) => name.toLowerCase().includes(filter.toLowerCase()));
  const buttons: HTMLButtonElement[] = [];
  const rows = shown.map((entry, i) => {
    const button = element(
      "button",
      { type: "button", tabindex: i === 0 ? 0 : -1, "data-tensor": entry.name },
      entry.name,
    );
    button.addEventListener("click", () => {
      for (const other of buttons) other.removeAttribute("aria-current");
      button.setAttribute("aria-current", "true");
      open(entry);
    });
    buttons.push(button);
    const elements = elementCount(entry.shape);
    const bits = elements === 0 ? "" : ((8 * entry.byteLength) / elements).toFixed(3);
    const type = isReadable(entry) ? entry.dtype : `${entry.dtype} (not decoded here)`;
    return [button, type, entry.shape.join(" × "), bits, entry.byteLength.toLocaleString("en")];
  });
  const made = table(`${shown.length} tensors`, ["name", "type", "shape", "bits per weight", "bytes"], rows);
  made.addEventListener("keydown", (event) => moveFocus(event, buttons));
  place.replaceChildren(made);
  return shown.length;
}

function moveFocus(event: KeyboardEvent, buttons: readonly HTMLButtonElement[]): void {
  const at = buttons.indexOf(event.target as HTMLButtonElement);
  const last = buttons.length - 1;
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: last, PageDown: at + 10, PageUp: at - 10 }[
    event.key
  ];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const next = buttons[Math.max(0, Math.min(last, to))];
  for (const button of buttons) button.tabIndex = button === next ? 0 : -1;
  next.focus();
}
