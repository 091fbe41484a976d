/** Making and finding elements. */

type Child = Node | string;

/** An element with attributes (`false` and undefined are left out) and children. */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Readonly<Record<string, string | number | boolean | undefined>> = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children);
  return made;
}

/** The page's own element of an id. */
export function find<Kind extends HTMLElement>(id: string, kind: new () => Kind): Kind {
  const found = document.getElementById(id);
  if (found instanceof kind) return found;
  throw new Error(`the page has no ${kind.name} #${id}`);
}

/** A table with a caption and column headers; the first cell of a row is its header where `rowHeaders` says so. */
export function table(
  caption: string,
  columns: readonly string[],
  rows: readonly (readonly Child[])[],
  { rowHeaders = true }: { rowHeaders?: boolean } = {},
): HTMLTableElement {
  const head = element("tr", {}, ...columns.map((title) => element("th", { scope: "col" }, title)));
  const body = rows.map((cells) =>
    element(
      "tr",
      {},
      ...cells.map((cell, i) =>
        i === 0 && rowHeaders ? element("th", { scope: "row" }, cell) : element("td", {}, cell),
      ),
    ),
  );
  return element(
    "table",
    {},
    element("caption", {}, caption),
    element("thead", {}, head),
    element("tbody", {}, ...body),
  );
}

/** A number with four significant digits. */
export function show(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  return Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6
    ? value.toExponential(3)
    : String(Number(value.toPrecision(4)));
}

/** The shortest digits that are this binary32 number and no other. */
export function showExactly(value: number): string {
  if (!Number.isFinite(value) || Object.is(value, -0)) return Object.is(value, -0) ? "-0" : String(value);
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return String(short);
  }
  return String(Number(value.toPrecision(9)));
}
