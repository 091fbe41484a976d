/**
 * Topology files: a YAML map of selectors to rules. All scalars are read as text (`12`, `none` and `0-8` are never numbers,
 * nulls or dates); aliases, anchors, tags and merge keys are refused, and so is every key that comes twice.
 */

import { type CST, isMap, isScalar, LineCounter, Parser, parseDocument } from "yaml";
import { type ErrorDetails, type ErrorTag, IsqError, isIsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import { parseDevice, parseRuleType, parseSelector, type TopologyRule } from "../topology.js";

/** What is known of the file while it is read. */
interface Reader {
  readonly text: string;
  readonly file: string;
  readonly lines: LineCounter;
}

const FIELDS = ["isq", "device"];

/** Parses the text of a topology file, in the order of its rules. Throws `topology/*` and `type/unknown` with the line. */
export function parseTopology(text: string, file = "topology"): TopologyRule[] {
  const reader = { text, file, lines: new LineCounter() };
  const rules = readMap(reader, parseYaml(reader), "the topology");
  const limit = LIMITS.topologyRules;
  if (rules.length === 0 || rules.length > limit) {
    const message = `the topology has ${rules.length} rules, not 1 to ${limit}`;
    refuse(reader, "topology/yaml", 1, message, { value: rules.length, limit });
  }
  return rules.map(({ key: selector, value, line }) => {
    const fields = readMap(reader, value, selector, line).map(({ key, value, line }) => ({
      key,
      value: readText(reader, value, key, line),
    }));
    return locate(reader, line, selector, () => parseRule(selector, fields));
  });
}

function parseRule(
  selector: string,
  fields: readonly { readonly key: string; readonly value: string }[],
): TopologyRule {
  const rule: { -readonly [Field in keyof TopologyRule]: TopologyRule[Field] } = parseSelector(selector);
  for (const { key, value } of fields) {
    if (key === "isq") rule.isq = parseRuleType(value);
    else if (key === "device") rule.device = parseDevice(value);
    else {
      const message = `there is no field ${JSON.stringify(key)}; the fields are ${FIELDS.join(", ")}`;
      throw new IsqError("topology/field", message, { field: key, value, limit: FIELDS });
    }
  }
  return rule;
}

/** Parses the YAML to its node at the top. */
function parseYaml(reader: Reader): unknown {
  const { text } = reader;
  const limit = LIMITS.topologyBytes;
  // UTF-16 units are never more than the bytes.
  if (text.length > limit) {
    const details = { field: "length", value: text.length, limit };
    refuse(
      reader,
      "topology/yaml",
      1,
      `the topology has ${text.length} characters, more than ${limit}`,
      details,
    );
  }
  checkDepth(reader);
  const document = parseDocument(text, {
    schema: "failsafe",
    version: "1.2",
    merge: false,
    uniqueKeys: false,
  });
  const problem = document.errors[0] ?? document.warnings[0];
  if (problem) {
    const reason = problem.message.split(/ at line|\n/)[0];
    refuse(reader, "topology/yaml", problem.linePos?.[0].line ?? 1, reason, { value: problem.code });
  }
  return document.contents;
}

/**
 * Refuses deep nesting before nodes are made of the text: making them recurses, and where the stack ends inside a regular
 * expression, V8 ends the process instead of throwing.
 */
function checkDepth(reader: Reader): void {
  const limit = LIMITS.topologyDepth;
  const waiting: { token: CST.Token; depth: number }[] = [];
  const add = (token: CST.Token | null | undefined, depth: number) => {
    if (token) waiting.push({ token, depth });
  };
  for (const token of new Parser(reader.lines.addNewLine).parse(reader.text)) {
    add(token, 0);
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      const { token, depth } = next;
      if (depth > limit) {
        const message = `it nests deeper than ${limit}`;
        refuse(reader, "topology/yaml", lineAt(reader, token.offset), message, { value: depth, limit });
      }
      if ("value" in token) add(token.value, depth + 1);
      if (!("items" in token)) continue;
      for (const { key, value } of token.items) {
        add(key, depth + 1);
        add(value, depth + 1);
      }
    }
  }
}

/** Reads a map with plain keys, none of which comes twice. `line` is where its own key is. */
function readMap(reader: Reader, node: unknown, what: string, line = 1) {
  if (!isMap(node)) {
    const kind = node === null || (isScalar(node) && node.value === "") ? "nothing" : "something else";
    refuse(reader, "topology/field", line, `${what} must be a map, and is ${kind}`, { field: what });
  }
  checkPlain(reader, node, what, line);
  const seen = new Set<string>();
  return node.items.map(({ key: keyNode, value }) => {
    const keyLine = isScalar(keyNode) ? lineAt(reader, keyNode.range?.[0] ?? 0) : line;
    const key = readText(reader, keyNode, `a key of ${what}`, keyLine);
    if (key === "<<")
      refuse(reader, "topology/yaml", keyLine, "merge keys are not supported", { field: key });
    if (seen.has(key)) refuse(reader, "topology/yaml", keyLine, `${key} comes twice`, { field: key });
    seen.add(key);
    return { key, value, line: keyLine };
  });
}

function readText(reader: Reader, node: unknown, what: string, line: number): string {
  checkPlain(reader, node, what, line);
  if (isScalar(node) && typeof node.value === "string" && node.value !== "") return node.value;
  return refuse(reader, "topology/field", line, `${what} must be a plain value`, { field: what });
}

function checkPlain(reader: Reader, node: unknown, what: string, line: number): void {
  const plain = (isMap(node) || isScalar(node)) && node.anchor === undefined && node.tag === undefined;
  if (plain || node === null) return;
  refuse(reader, "topology/yaml", line, `${what} has an alias, an anchor, a tag or a list`, { field: what });
}

/** Runs `parse`, and adds file and line to what it throws. */
function locate<Result>(reader: Reader, line: number, selector: string, parse: () => Result): Result {
  try {
    return parse();
  } catch (error) {
    if (!isIsqError(error)) throw error;
    return refuse(reader, error.tag, line, error.message, { ...error.details, selector });
  }
}

function lineAt({ lines }: Reader, offset: number): number {
  return lines.linePos(offset).line;
}

function refuse(
  { file }: Reader,
  tag: ErrorTag,
  line: number,
  message: string,
  details: ErrorDetails,
): never {
  throw new IsqError(tag, `${file}:${line}: ${message}`, { ...details, file, line });
}
