/** What hurts most: a table, and a page with plots. */

import type { PartOption, ProposedPart } from "../propose.js";
import type { SensitivityResult } from "../sensitivity.js";
import { type Column, htmlTable, renderPage, textTable } from "./page.js";
import { describeMeasured, type Measured } from "./quality.js";
import { COLORS, lines, scatter } from "./svg.js";

const nats = (value: number | undefined) => (value === undefined ? "-" : value.toExponential(2));

/** A part, and what was proposed for it. */
interface PartRow {
  readonly part: SensitivityResult["parts"][number];
  readonly proposed: ProposedPart | undefined;
}

/** Rows by what the first type does to them, the worst first. */
function rowsOf({ parts, proposal }: SensitivityResult): PartRow[] {
  const rows = parts.map((part) => ({ part, proposed: proposal?.parts.find((each) => each.part === part) }));
  const hurt = ({ part }: PartRow) => Math.max(...part.options.map(({ divergence }) => divergence));
  return rows.sort((a, b) => hurt(b) - hurt(a));
}

function columnsOf({ parts, proposal }: SensitivityResult): Column<PartRow>[] {
  const types = typesOf(parts.flatMap(({ options }) => options));
  return [
    { title: "quantized alone", cell: ({ part }) => part.name },
    { title: "weights", cell: ({ part }) => String(part.elements) },
    ...types.map((type) => ({
      title: type,
      cell: ({ part }: PartRow) => nats(part.options.find((option) => option.type === type)?.divergence),
    })),
    ...(proposal
      ? [{ title: "proposed", words: true, cell: ({ proposed }: PartRow) => proposed?.type ?? "none" }]
      : []),
  ];
}

function typesOf(options: readonly PartOption[]): string[] {
  return [...new Set(options.flatMap(({ type }) => type ?? []))];
}

interface WholeRow {
  readonly what: string;
  readonly bitsPerWeight: number;
  readonly divergence: number;
  readonly predicted?: number;
}

function wholeRows({ uniform, proposal }: SensitivityResult): WholeRow[] {
  const all = uniform.map(({ type, ...figures }) => ({ what: type, ...figures }));
  return proposal ? [...all, { what: "proposed mix", ...proposal }] : all;
}

const WHOLE: readonly Column<WholeRow>[] = [
  { title: "whole model", cell: ({ what }) => what },
  { title: "bits/weight", cell: ({ bitsPerWeight }) => bitsPerWeight.toFixed(4) },
  { title: "KL mean", cell: ({ divergence }) => nats(divergence) },
  { title: "sum of the parts", cell: ({ predicted }) => nats(predicted) },
];

export function sensitivityText(result: SensitivityResult): string {
  return `${textTable(columnsOf(result), rowsOf(result))}\n\n${textTable(WHOLE, wholeRows(result))}`;
}

export function sensitivityPage(measured: Measured, result: SensitivityResult): string {
  const { parts, predictions } = result;
  const series = typesOf(parts.flatMap(({ options }) => options)).map((type) => {
    const measuredParts = parts.filter(({ options }) => options.some((option) => option.type === type));
    return {
      name: type,
      values: measuredParts.map(({ options }) => options.find((option) => option.type === type)!.divergence),
      labels: measuredParts.map(({ name }) => name),
    };
  });
  const kl = { label: "mean KL divergence, nats", log: true };
  const points = wholeRows(result).map(({ what, bitsPerWeight, divergence }, i) => ({
    x: bitsPerWeight,
    y: divergence,
    label: what,
    color: COLORS[i % COLORS.length],
  }));
  return renderPage(`What hurts most: ${measured.model}`, {
    intro:
      `Mean KL divergence from the unquantized model on ${predictions} tokens, when one part alone is quantized: ` +
      `${describeMeasured(measured)}.`,
    sections: [
      { html: htmlTable(WHOLE, wholeRows(result)) },
      {
        heading: "Size against divergence",
        html: scatter("Size against divergence", points, { label: "bits per weight, whole model" }, kl),
      },
      {
        heading: "Part by part",
        html: lines("Part by part", series, { label: "part, in the order of the model" }, kl),
      },
      { heading: "All parts, the worst first", html: htmlTable(columnsOf(result), rowsOf(result)) },
    ],
  });
}
