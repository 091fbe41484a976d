/**
 * The worker of the threads backend: does its share of one task after the other, and keeps its share of open models. One to a
 * thread; the thread's own module says how files are read and garbage is collected there.
 */

import { IsqError, isIsqError } from "../errors.js";
import { rowElements } from "../quants/tensor.js";
import type { FileTensor } from "./backend.js";
import { type EncodeResult, newBadTile, type ValueReader } from "./encode-job.js";
import { type OpenFile, openFileValues } from "./file-values.js";
import { claimRank, joinTeam, shareOf, stopTeam, type Team } from "./team.js";
import type { WorkerAnswer, WorkerTask } from "./threads-protocol.js";
import { Banks, MOST_BANK_BYTES } from "./wasm-bank.js";
import { decode } from "./wasm-decode.js";
import { arrayReader, encode, encodeBlocks } from "./wasm-encode.js";
import { finishRows, freeRows, placeRows, reserveRows, writeRows } from "./wasm-linear.js";
import { Member } from "./wasm-member.js";
import { multiplyRows } from "./wasm-product.js";

interface OpenSession {
  readonly member: Member;
  readonly rank: number;
  arrays: readonly (Float32Array | null)[];
}

/** Bytes read from a file at a time when they stay as they are. */
const COPY_BYTES = 2 ** 20;

const sessions = new Map<number, OpenSession>();
let codecBanks: Promise<Banks> | undefined;

/** What the runtime of a worker thread is asked for. */
export interface Thread {
  /** Opens the file of a tensor. Throws `source/open`. */
  readonly openFile: OpenFile;
  /** Counts bytes that this thread lets go of, and collects its garbage when they are many. */
  letGo(byteLength: number): void;
  /** Collects now. */
  collect(): void;
}

let thread: Thread;

/** What the task before this one had in shared memory: nothing refers to it any more. */
let sharedBefore = 0;

/** The function that does tasks on this thread. */
export function startWorker(own: Thread): (task: WorkerTask) => Promise<WorkerAnswer> {
  thread = own;
  return work;
}

async function work(task: WorkerTask): Promise<WorkerAnswer> {
  thread.letGo(sharedBefore);
  sharedBefore = sharedByteLength(task);
  try {
    const result = await perform(task);
    if (task.kind === "close") thread.collect();
    return { error: null, result };
  } catch (error) {
    stopTeam(task.state, "failure");
    if (!isIsqError(error)) throw error;
    const { tag, message, details } = error;
    return { error: { tag, message, details } };
  }
}

/** Bytes of the arrays that come with a task and leave with it. */
function sharedByteLength(task: WorkerTask): number {
  switch (task.kind) {
    case "encode":
      return task.out.data.byteLength + (task.values instanceof Float32Array ? task.values.byteLength : 0);
    case "decode":
      return task.tensor.data.byteLength + task.out.byteLength;
    case "multiply":
      return task.weights.data.byteLength + task.activations.byteLength + task.out.byteLength;
    case "read":
      return task.out.byteLength;
    case "place":
      return task.tensor.data.byteLength;
    case "readBack":
      return task.target.data.byteLength;
    default:
      return 0;
  }
}

type TaskOf<Kind extends WorkerTask["kind"]> = Extract<WorkerTask, { kind: Kind }>;

async function perform(task: WorkerTask): Promise<EncodeResult | null> {
  if (task.kind === "open") {
    await openSession(task);
    return null;
  }
  if ("session" in task) return performInSession(task);
  const team = teamOf(task, claimRank(task.state));
  team.check();
  if (task.kind === "hello") {
    await openCodecBanks();
    team.barrier();
    return null;
  }
  const banks = await openCodecBanks();
  const bank = banks.first;
  if (task.kind === "encode") {
    return withReader(task.values, (reader) => encode(bank, task.job, reader, task.out, team));
  }
  if (task.kind === "decode") decode(bank, task.tensor, task.out, team);
  else if (task.kind === "read") readFile(task, team);
  else await multiply(banks, task, team);
  return null;
}

function teamOf({ state, members, spin }: WorkerTask, index: number): Team {
  return joinTeam(state, { index, count: members }, spin);
}

function openCodecBanks(): Promise<Banks> {
  codecBanks ??= Banks.open(MOST_BANK_BYTES);
  return codecBanks;
}

async function withReader<Result>(
  values: Float32Array | FileTensor,
  use: (reader: ValueReader) => Result | Promise<Result>,
): Promise<Result> {
  if (values instanceof Float32Array) return use(arrayReader(values));
  const reader = openFileValues(values, thread.openFile);
  try {
    return await use(reader);
  } finally {
    reader.close();
  }
}

function readFile({ file, out }: TaskOf<"read">, team: Team): void {
  const reader = openFileValues(file, thread.openFile);
  try {
    for (let n = team.claim(); n * COPY_BYTES < out.length; n = team.claim()) {
      team.check();
      reader.readBytes(out.subarray(n * COPY_BYTES, (n + 1) * COPY_BYTES), n * COPY_BYTES);
    }
  } finally {
    reader.close();
  }
}

async function multiply(banks: Banks, task: TaskOf<"multiply">, team: Team): Promise<void> {
  const { weights, rows, activations, out } = task;
  const outputs = out.length / rows;
  const columns = rowElements(weights.shape);
  const placed = await placeRows(banks, weights, ...shareOf(outputs, 16, team.part));
  try {
    multiplyRows(
      placed,
      {
        count: rows,
        bring(row, count, bank, stage) {
          bank.floats.set(activations.subarray(row * columns, (row + count) * columns), stage / 4);
          return stage;
        },
      },
      { store: (row, first, values) => out.set(values, row * outputs + first) },
    );
  } finally {
    freeRows(placed);
  }
}

async function openSession(task: TaskOf<"open">): Promise<void> {
  const rank = claimRank(task.state);
  const team = teamOf(task, rank);
  const banks = await Banks.open(task.memoryByteLength, task.workerByteLength);
  const member = new Member(task.program, banks, team);
  team.barrier();
  sessions.set(task.session, { member, rank, arrays: [] });
}

async function performInSession(
  task: Exclude<Extract<WorkerTask, { session: number }>, { kind: "open" }>,
): Promise<EncodeResult | null> {
  const session = sessions.get(task.session);
  if (task.kind === "close") {
    session?.member.dispose();
    sessions.delete(task.session);
    return null;
  }
  if (!session) {
    const message = "a worker that held part of this model died; open the model again";
    throw new IsqError("backend/worker", message, { session: task.session });
  }
  const team = teamOf(task, session.rank);
  const { member } = session;
  team.check();
  member.join(team);
  if (task.kind === "placeFile") return placeFile(member, task, team);
  if (task.kind === "place") await member.weights.place(task.weight, task.tensor, team);
  else if (task.kind === "readBack") member.weights.read(task.weight, task.target);
  else if (task.kind === "observe") member.observe(task.observation);
  else if (task.kind === "turn") {
    team.barrier(); // all members or none
    member.weights.turn(task.step);
  } else {
    if (task.arrays) session.arrays = task.arrays;
    member.run(task.batch, session.arrays);
  }
  return null;
}

/** Reads, encodes and keeps this member's rows of a weight, tile by tile. */
async function placeFile(
  member: Member,
  task: TaskOf<"placeFile">,
  team: Team,
): Promise<EncodeResult | null> {
  const { file, encode: encoding, bad } = task;
  const width = rowElements(file.shape);
  const share = member.weights.rowsOf(task.weight)!;
  const form = encoding
    ? { type: encoding.type, algorithm: encoding.algorithm, width }
    : { type: file.type, width };
  const rows = await reserveRows(member.banks, form, ...share);
  const own = ownTiles(team);
  let result: EncodeResult | null = null;
  try {
    if (encoding) {
      const range = { first: share[0] * width, last: share[1] * width };
      const { type, algorithm, importance } = encoding;
      const job = { type, algorithm, count: range.last, width, ...(importance && { importance }) };
      const write = (bytes: Uint8Array, offset: number) => writeRows(rows, bytes, offset);
      const noTile = newBadTile(new Int32Array(1));
      result = await withReader(file, (reader) =>
        encodeBlocks(member.banks.first, job, reader, write, range, noTile, own),
      );
      if (result.nonFinite >= 0) Atomics.store(bad, 0, 1);
    } else copyRows(file, share, (bytes, offset) => writeRows(rows, bytes, offset));
    finishRows(rows);
    team.barrier();
  } catch (error) {
    freeRows(rows);
    throw error;
  }
  if (Atomics.load(bad, 0) !== 0) {
    freeRows(rows); // in all members: what was there stays
    return result;
  }
  member.weights.putRows(task.weight, rows, team);
  return result;
}

/** Each member goes through its own rows; only the barrier is common. */
function ownTiles(team: Team): Team {
  let next = 0;
  return { ...team, claim: () => next++ };
}

function copyRows(
  file: FileTensor,
  [first, last]: readonly [number, number],
  write: (bytes: Uint8Array, offset: number) => void,
): void {
  const reader = openFileValues(file, thread.openFile);
  const rowBytes = rowElements(file.shape) * (file.type === "F32" ? 4 : 2);
  const staged = new Uint8Array(COPY_BYTES);
  const total = (last - first) * rowBytes;
  try {
    for (let offset = 0; offset < total; offset += COPY_BYTES) {
      const part = staged.subarray(0, Math.min(COPY_BYTES, total - offset));
      reader.readBytes(part, first * rowBytes + offset);
      write(part, offset);
    }
  } finally {
    reader.close();
  }
}
