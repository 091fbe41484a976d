/** A verdict in a few lines for people and logs. */

import { explanationLines } from "./explain-answer.js";
import type { Finding, Verdict } from "./judge.js";
import type { VectorSpec } from "./spec.js";

export function describeSpec({ operation, type, algorithm, importance, seed, columns }: VectorSpec): string {
  return `${operation} ${type} ${algorithm}${importance ? " importance" : ""}, seed ${seed}, ${columns} columns`;
}

/** The summary; its first word is PASS or FAIL. */
export function formatVerdict(verdict: Verdict): string {
  const { ok, spec, identical, different, garbled, missing, complaints, findings, wrongKinds, causes } =
    verdict;
  const counts = [`${identical} identical`, `${different} different`];
  if (garbled > 0) counts.push(`${garbled} garbled`);
  if (missing > 0) counts.push(`${missing} missing`);
  const lines = [
    `${ok ? "PASS" : "FAIL"} ${spec ? `${describeSpec(spec)}: ${counts.join(", ")}` : "no vectors"}`,
  ];
  lines.push(...complaints.map((complaint) => `  ${complaint}`));
  lines.push(...findings.map(describeFinding));
  const explained = findings.filter(({ explanation }) => explanation).length;
  for (const { cause, detail } of causes ?? []) {
    lines.push(`  ${cause} (${detail}) explains all ${explained} cases above`);
  }
  const hidden = different + garbled - findings.length;
  if (hidden > 0) lines.push(`  … and ${hidden} more`);
  const kinds = Object.entries(wrongKinds).map(([kind, { cases, wrong }]) => `${kind} ${wrong}/${cases}`);
  if (kinds.length > 0) lines.push(`  wrong by kind: ${kinds.slice(0, 12).join("; ")}`);
  return `${lines.join("\n")}\n`;
}

function describeFinding({ case: index, kind, difference, garbled, explanation }: Finding): string {
  if (!difference) return `  case ${index} (${kind}): ${garbled}`;
  const { place, expected, actual, differingBytes } = difference;
  const line = `  case ${index} (${kind}): ${place}: expected ${expected}, got ${actual}; ${differingBytes} bytes differ`;
  const more = explanation ? explanationLines(explanation) : [];
  return [line, ...more.map((text) => `    ${text}`)].join("\n");
}
