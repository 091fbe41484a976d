/** Self-contained HTML pages: tables and plots, no script, nothing fetched. */

import { escapeHtml } from "./svg.js";
import { formatTable } from "./text.js";

/** A column of a table, on a page and in the terminal. */
export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => string;
  /** Words and not numbers. The first column always is. */
  readonly words?: boolean;
}

export interface Page {
  readonly intro: string;
  readonly sections: readonly { readonly heading?: string; readonly html: string }[];
}

/** Renders a page; only sections are taken as HTML. */
export function renderPage(heading: string, { intro, sections }: Page): string {
  const title = escapeHtml(heading);
  const parts = sections.map(({ heading, html }) =>
    heading === undefined ? html : `<h2>${escapeHtml(heading)}</h2>\n${html}`,
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }
.table { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td { white-space: nowrap }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child, .words { text-align: left }
svg { width: 100%; height: auto }
pre { white-space: pre-wrap; background: #f6f6f6; padding: 1rem }
</style>
<h1>${title}</h1>
<p>${escapeHtml(intro)}</p>
${parts.join("\n")}
</html>
`;
}

export function htmlTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const open = (tag: string, { words }: Column<Row>) => `<${tag}${words ? ' class="words"' : ""}`;
  const head = columns.map((column) => `${open("th", column)} scope="col">${escapeHtml(column.title)}</th>`);
  const body = rows.map((row) => {
    const cells = columns.map((column) => `${open("td", column)}>${escapeHtml(column.cell(row))}</td>`);
    return `<tr>${cells.join("")}</tr>`;
  });
  const table = `<table><thead><tr>${head.join("")}</tr></thead><tbody>${body.join("\n")}</tbody></table>`;
  return `<div class="table" tabindex="0">${table}</div>`;
}

/** The same for the terminal. */
export function textTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const numbers = columns.flatMap(({ words }, i) => (i === 0 || words ? [] : [i]));
  return formatTable(
    columns.map(({ title }) => title),
    rows.map((row) => columns.map(({ cell }) => cell(row))),
    new Set(numbers),
  );
}
