/**
 * Encoding HQQ by a team, in groups with a vote after every round: the stop test looks at the whole tensor. Memory is bounded
 * all the same: the values of a large tensor are read again in every round.
 */

import {
  type EncodeJob,
  type EncodeOutput,
  type EncodeResult,
  lower,
  NOT_BAD,
  type ValueReader,
} from "./encode-job.js";
import { shareOf, type Team } from "./team.js";
import type { Bank } from "./wasm-bank.js";

const f32 = Math.fround;

const ROUNDS = 10;
const GROUP = 64;

/** Values that a member has in its memory at once. */
const KEPT_ELEMENTS = 2 ** 20;

/** Some of a member's groups: `first` is the tensor's, `s` and `z` where theirs are. */
interface GroupRun {
  readonly first: number;
  readonly own: number;
  readonly s: number;
  readonly z: number;
  readonly groupStride: number;
  readonly memberStride: number;
}

/** Encodes this member's share of the groups. */
export function encodeGroups(
  bank: Bank,
  job: EncodeJob,
  reader: ValueReader,
  out: EncodeOutput,
  team: Team,
  keptElements = KEPT_ELEMENTS,
): EncodeResult {
  const bits = job.type === "HQQ4" ? 4 : 8;
  const largest = 2 ** bits - 1;
  const groups = job.count / GROUP;
  const [first, last] = shareOf(groups, 4, team.part);
  const most = Math.min(keptElements / GROUP, last - first);
  const members = bits === 8 ? GROUP : GROUP / 2;
  const areas = [4 * GROUP * most, 4 * (last - first), 4 * (last - first), 4 * most, members * most];
  const addresses = areas.map((byteLength) => bank.allocate(byteLength));
  const [src, s, z, errors, data] = addresses;
  const stride = job.algorithm === "hqq" ? null : groups;
  const eachRun = runsOf(bank, reader, { src, s, z, first, last, most, stride });
  try {
    const bad = beginGroups(bank, src, largest, eachRun, stride);
    if (bad.nonFinite >= 0) lower(out.bad, 0);
    team.barrier();
    if (Atomics.load(out.bad, 0) !== NOT_BAD) return { ...bad, reencodedBlocks: 0 };
    let beta = 10;
    let best = 10000;
    for (let round = 0; round < ROUNDS; round++, beta *= 1.01) {
      // Two halves by turns: a slow member may still add up one while a fast one fills the other.
      const votes = out.votes!.subarray((round & 1) * groups, ((round & 1) + 1) * groups);
      eachRun(({ first: at, own, s, z, groupStride, memberStride }) => {
        bank.call("hqq_round", src, s, z, errors, own, groupStride, memberStride, largest, f32(1 / beta));
        votes.set(bank.floats.subarray(errors / 4, errors / 4 + own), at);
      });
      team.barrier();
      let total = 0;
      for (let j = 0; j < groups; j++) total += votes[j];
      const error = f32(total / job.count);
      if (!(error < best)) break; // the zeros of this last round are kept
      best = error;
    }
    eachRun(({ first: at, own, s, z, groupStride, memberStride }) => {
      bank.call("hqq_finish", src, s, z, data, own, own, groupStride, memberStride, bits);
      for (let r = 0; r < members; r++) {
        out.data.set(bank.bytes.subarray(data + r * own, data + (r + 1) * own), r * groups + at);
      }
    });
    out.scales!.set(bank.floats.subarray(s / 4, s / 4 + last - first), first);
    out.zeros!.set(bank.floats.subarray(z / 4, z / 4 + last - first), first);
    return { nonFinite: -1, reencodedBlocks: 0 };
  } finally {
    for (const address of addresses) bank.free(address);
  }
}

/** Calls with some of the member's groups after the others; their values are at `src` then, read once if they all fit. */
function runsOf(
  bank: Bank,
  reader: ValueReader,
  own: {
    src: number;
    s: number;
    z: number;
    first: number;
    last: number;
    most: number;
    stride: number | null;
  },
): (use: (run: GroupRun) => void) => void {
  const { src, s, z, first, last, most, stride } = own;
  let isRead = false;
  return (use) => {
    for (let at = first; at < last; at += most) {
      const count = Math.min(most, last - at);
      if (!isRead) readGroups(bank, reader, src, at, count, stride);
      isRead = most === last - first;
      const offset = 4 * (at - first);
      const [groupStride, memberStride] = stride === null ? [GROUP, 1] : [1, count];
      use({ first: at, own: count, s: s + offset, z: z + offset, groupStride, memberStride });
    }
  };
}

/** First multipliers and zeros; or the first value that is no number, in the order of the tensor. */
function beginGroups(
  bank: Bank,
  src: number,
  largest: number,
  eachRun: (use: (run: GroupRun) => void) => void,
  stride: number | null,
): Pick<EncodeResult, "nonFinite" | "nonFiniteValue"> {
  let bad: Pick<EncodeResult, "nonFinite" | "nonFiniteValue"> = { nonFinite: -1 };
  eachRun(({ first, own, s, z, groupStride, memberStride }) => {
    const at = bank.call("first_non_finite", src, GROUP * own);
    if (at < 0) {
      bank.call("hqq_begin", src, s, z, own, groupStride, memberStride, largest);
      return;
    }
    const element = stride === null ? first * GROUP + at : Math.floor(at / own) * stride + first + (at % own);
    if (bad.nonFinite >= 0 && bad.nonFinite < element) return;
    bad = { nonFinite: element, nonFiniteValue: bank.floats[src / 4 + at] };
  });
  return bad;
}

/** Values of `own` groups from `first` on; `stride` is the number of all groups, or null for consecutive members. */
function readGroups(
  bank: Bank,
  reader: ValueReader,
  src: number,
  first: number,
  own: number,
  stride: number | null,
): void {
  if (stride === null) {
    reader.read(bank, first * GROUP, own * GROUP, src);
    return;
  }
  for (let r = 0; r < GROUP; r++) reader.read(bank, r * stride + first, own, src + 4 * r * own);
}
