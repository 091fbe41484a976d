/**
 * Judges a stream of answers as it arrives. Whatever arrives is judged: too little, too much, garbage, answers out of
 * order. It never throws for what a subject printed; the verdict says what was wrong, with the first differences.
 */

import { isIsqError } from "../errors.js";
import { type AnswerDifference, compareAnswer, expectedAnswer } from "./answers.js";
import { makeCase } from "./cases.js";
import type { Cause } from "./causes.js";
import { type Explanation, explainAnswer } from "./explain-answer.js";
import { join } from "./packed.js";
import { answerByteLength, type VectorSpec } from "./spec.js";
import { fromBase64, HEADER_BYTES, parseBinaryHeader, parseHeaderLine, type StreamFormat } from "./wire.js";

/** A case that was answered wrongly, or not in the form asked for (then `garbled` says how). */
export interface Finding {
  readonly case: number;
  readonly kind: string;
  readonly difference?: AnswerDifference;
  readonly garbled?: string;
  /** With {@link JudgeOptions.explain}. */
  readonly explanation?: Explanation;
}

export interface KindCount {
  readonly cases: number;
  readonly wrong: number;
}

/** How many answers are right, wrong or absent, and whether the stream passes. */
export interface Verdict {
  readonly ok: boolean;
  /** Absent when no usable header arrived. */
  readonly spec?: VectorSpec;
  readonly identical: number;
  readonly different: number;
  readonly garbled: number;
  /** Cases without an answer. */
  readonly missing: number;
  /** Why the stream as a whole is not accepted: no header, too short, too long, crashed, silent. */
  readonly complaints: readonly string[];
  /** The first wrong answers, at most ten. */
  readonly findings: readonly Finding[];
  /** With {@link JudgeOptions.explain}: the causes that fit every finding with an explanation. */
  readonly causes?: readonly Cause[];
  /** By kind of input, for the kinds with wrong answers. */
  readonly wrongKinds: Readonly<Record<string, KindCount>>;
}

/** Takes the answers of a program as they arrive and compares them with the contract. */
export interface Judge {
  /** Takes the next bytes. False once nothing that follows can matter: the reader may stop. */
  push(chunk: Uint8Array): boolean;
  /** Answers judged so far. */
  readonly answered: number;
  /** The verdict, when nothing more comes; `complaints` are those of whoever ran the program. */
  finish(complaints?: readonly string[]): Verdict;
}

/** What a judge expects and says. */
export interface JudgeOptions {
  /** The only spec that a header may have. */
  readonly expect?: VectorSpec;
  /** Say of the first wrong answers what the contract computed and which known cause fits. */
  readonly explain?: boolean;
}

const FINDINGS = 10;
/** A header line has about 250 bytes. */
const HEADER_LINE_BYTES = 4096;
/** What an answer's line may have beside the base64: {"case":4294967295,"answer":""} with spaces and other fields. */
const LINE_SLACK_BYTES = 4096;
/** So many cases may be left out before the stream is given up. */
const SKIPPED = 1000;
const NEWLINE = 10;
const BRACE = 123;

const decoder = new TextDecoder("utf-8", { fatal: true });

/** A judge for one stream of answers. */
export function createJudge(options: JudgeOptions = {}): Judge {
  return new StreamJudge(options);
}

class StreamJudge implements Judge {
  private readonly complaints: string[] = [];
  private readonly findings: Finding[] = [];
  private readonly kinds = new Map<string, { cases: number; wrong: number }>();
  private pending: Uint8Array[] = [];
  private pendingBytes = 0;
  private format: StreamFormat | undefined;
  private spec: VectorSpec | undefined;
  private counts = { identical: 0, different: 0, garbled: 0 };
  private next = 0;
  private stopped = false;

  constructor(private readonly options: JudgeOptions) {}

  get answered(): number {
    return this.next;
  }

  push(chunk: Uint8Array): boolean {
    if (this.stopped || chunk.length === 0) return !this.stopped;
    this.pending.push(chunk);
    this.pendingBytes += chunk.length;
    // Joining is worth it only when the bytes can complete something.
    const wanted = this.format === "binary" ? this.wantedBytes() : 0;
    if (this.pendingBytes < wanted) return true;
    if (this.format === "json" && !chunk.includes(NEWLINE) && this.pendingBytes <= this.lineLimit())
      return true;
    let rest = join(this.pending);
    this.format ??= rest[0] === BRACE ? "json" : "binary";
    for (let used = this.take(rest); used > 0 && !this.stopped; used = this.take(rest)) {
      rest = rest.subarray(used);
    }
    this.pending = rest.length > 0 && !this.stopped ? [rest] : [];
    this.pendingBytes = this.stopped ? 0 : rest.length;
    return !this.stopped;
  }

  finish(complaints: readonly string[] = []): Verdict {
    if (!this.stopped && this.pendingBytes > 0) this.takeRemains();
    const { spec } = this;
    const missing = spec ? spec.count - this.next : 0;
    const all = [...this.complaints, ...complaints];
    if (!spec && this.complaints.length === 0) all.unshift("no header arrived");
    if (missing > 0) all.push(`${this.next} of ${spec?.count} answers arrived`);
    const wrongKinds = [...this.kinds].filter(([, count]) => count.wrong > 0);
    return {
      ok: all.length === 0 && this.counts.different === 0 && this.counts.garbled === 0,
      ...(spec && { spec }),
      ...this.counts,
      missing,
      complaints: all,
      findings: this.findings,
      ...(this.options.explain && { causes: commonCauses(this.findings) }),
      wrongKinds: Object.fromEntries(wrongKinds),
    };
  }

  private wantedBytes(): number {
    return this.spec ? answerByteLength(this.spec) : HEADER_BYTES;
  }

  private lineLimit(): number {
    if (!this.spec) return HEADER_LINE_BYTES;
    return 4 * Math.ceil(answerByteLength(this.spec) / 3) + LINE_SLACK_BYTES;
  }

  /** Takes one header, answer or line from the front; returns the bytes used, 0 when there are too few. */
  private take(bytes: Uint8Array): number {
    if (bytes.length === 0) return 0;
    if (this.spec && this.next === this.spec.count) return this.takeSurplus(bytes);
    if (this.format === "binary") {
      const wanted = this.wantedBytes();
      if (bytes.length < wanted) return 0;
      const part = bytes.subarray(0, wanted);
      if (this.spec) this.judgeAnswer(part);
      else this.readHeader(() => parseBinaryHeader(part));
      return wanted;
    }
    const end = bytes.indexOf(NEWLINE);
    if (end < 0 && bytes.length <= this.lineLimit()) return 0;
    if (end < 0 || end > this.lineLimit()) {
      this.stop(`a line after ${this.next} answers is longer than ${this.lineLimit()} bytes`);
      return bytes.length;
    }
    this.takeLine(bytes.subarray(0, end));
    return end + 1;
  }

  private takeLine(line: Uint8Array): void {
    if (this.spec) this.judgeLine(line);
    else this.readHeader(() => parseHeaderLine(line));
  }

  /** Blank lines after the last answer are no answers; anything else is one too many. */
  private takeSurplus(bytes: Uint8Array): number {
    const blank =
      this.format === "json" && bytes.every((byte) => byte === NEWLINE || byte === 13 || byte === 32);
    if (!blank) this.stop(`more was printed than ${this.spec?.count} answers`);
    return bytes.length;
  }

  /** What is left at the end: a last line without its newline, or a cut answer. */
  private takeRemains(): void {
    const rest = join(this.pending);
    if (this.format === "json" && rest[rest.length - 1] === 125) this.takeLine(rest);
    else if (this.spec) this.complaints.push(`the last answer is cut: ${rest.length} bytes of it arrived`);
    else this.complaints.push(`the header is cut: ${rest.length} bytes of it arrived`);
  }

  private readHeader(parse: () => VectorSpec): void {
    try {
      const spec = parse();
      const { expect } = this.options;
      if (expect && JSON.stringify(expect) !== JSON.stringify(spec)) {
        this.stop("the header is that of other vectors than asked for");
      } else this.spec = spec;
    } catch (error) {
      if (!isIsqError(error)) throw error;
      this.stop(error.message);
    }
  }

  private stop(complaint: string): void {
    this.complaints.push(complaint);
    this.stopped = true;
  }

  private judgeLine(line: Uint8Array): void {
    const read = readAnswerLine(line);
    const number = read.case ?? this.next;
    if (number < this.next) this.stop(`case ${number} is answered again after case ${this.next - 1}`);
    else if (number >= Math.min((this.spec as VectorSpec).count, this.next + SKIPPED)) {
      this.stop(`a line answers case ${number}, and case ${this.next} is next`);
    }
    if (this.stopped) return;
    while (this.next < number) this.count({ garbled: `no answer: a line for case ${number} came instead` });
    if (read.answer) this.judgeAnswer(read.answer);
    else this.count({ garbled: read.garbled as string });
  }

  private judgeAnswer(answer: Uint8Array): void {
    const spec = this.spec as VectorSpec;
    const wanted = answerByteLength(spec);
    if (answer.length !== wanted) {
      this.count({ garbled: `the answer has ${answer.length} bytes, not ${wanted}` });
      return;
    }
    const asked = makeCase(spec, this.next);
    const expected = expectedAnswer(spec, asked);
    const difference = compareAnswer(spec, expected, answer);
    // Some tens of encodings each: for the findings that are kept alone.
    const wanting = difference && this.options.explain && this.findings.length < FINDINGS;
    const explanation = wanting ? explainAnswer(spec, asked, expected, answer) : undefined;
    this.count({ ...(difference && { difference }), ...(explanation && { explanation }) }, asked.kind);
  }

  /** Counts the answer to the next case. */
  private count(finding: Omit<Finding, "case" | "kind">, known?: string): void {
    const index = this.next++;
    const kind = known ?? makeCase(this.spec as VectorSpec, index).kind;
    const tally = this.kinds.get(kind) ?? { cases: 0, wrong: 0 };
    this.kinds.set(kind, tally);
    tally.cases++;
    if (!finding.difference && !finding.garbled) {
      this.counts.identical++;
      return;
    }
    tally.wrong++;
    if (finding.garbled) this.counts.garbled++;
    else this.counts.different++;
    if (this.findings.length < FINDINGS) this.findings.push({ case: index, kind, ...finding });
  }
}

/** The causes that fit all explained findings. */
function commonCauses(findings: readonly Finding[]): Cause[] {
  const lists = findings.flatMap(({ explanation }) => (explanation ? [explanation.causes] : []));
  const [first = []] = lists;
  const isIn = (causes: readonly Cause[], { cause, detail }: Cause) =>
    causes.some((one) => one.unexplainedBytes === 0 && one.cause === cause && one.detail === detail);
  return first.filter((cause) => lists.every((causes) => isIn(causes, cause)));
}

interface AnswerLine {
  /** The case it says it answers, if it says. */
  readonly case?: number;
  readonly answer?: Uint8Array;
  readonly garbled?: string;
}

function readAnswerLine(line: Uint8Array): AnswerLine {
  let fields: unknown;
  try {
    fields = JSON.parse(decoder.decode(line));
  } catch {
    return { garbled: "the line is not JSON" };
  }
  if (typeof fields !== "object" || fields === null) return { garbled: "the line is not an object" };
  const { case: number, answer } = fields as Record<string, unknown>;
  if (typeof number !== "number" || !Number.isInteger(number)) return { garbled: "the line names no case" };
  if (typeof answer !== "string") return { case: number, garbled: "the line has no answer" };
  const bytes = fromBase64(answer);
  return bytes ? { case: number, answer: bytes } : { case: number, garbled: "the answer is not base64" };
}
