/**
 * Every flag that several commands or model forms have, defined once: the parser, `--help`, README.md and
 * docs/commands.md are made of this table. Flags of one command alone are defined with that command.
 */

import { type Command, InvalidArgumentError, Option } from "commander";
import { BACKEND_CHOICES, parseDeviceChoice } from "../backends/open.js";
import { isIsqError } from "../errors.js";
import { ARCHITECTURE_NAMES } from "../model/architectures/index.js";
import { parseDeviceLayers } from "../model/device-layers.js";
import { ALGORITHM_CHOICES } from "../plan.js";
import { ORGANIZATIONS } from "../plan-rules.js";
import { type IsqType, TYPE_NAMES } from "../quants/table.js";
import { parseType } from "../quants/tensor.js";

interface FlagDefinition {
  /** Long name and value, as commander has them. */
  readonly form: string;
  readonly help: string;
  readonly parse?: (value: string) => unknown;
  readonly choices?: readonly string[];
  readonly preset?: unknown;
  /** Attributes of the flags that this one excludes. */
  readonly conflicts?: readonly string[];
  /** Where the value comes from when the flag is not given. */
  readonly env?: string;
}

const PAGED_SIZES = ["paCtxtLen", "paGpuMem", "paGpuMemUsage"];

export const FLAGS = {
  isq: {
    form: "--isq <type>",
    help: `quantize in situ to one of ${TYPE_NAMES.join(" ")}`,
    parse: parseTypeName,
  },
  isqTypes: {
    form: "--isq <types>",
    help: `the type or types, separated by commas: ${TYPE_NAMES.join(" ")}`,
    parse: (value: string) => value.split(",").map((name) => parseTypeName(name.trim())),
  },
  algorithm: {
    form: "--algorithm <name>",
    help: "encoder lineage",
    choices: ALGORITHM_CHOICES,
    preset: "default",
  },
  topology: {
    form: "--topology <file>",
    help: "YAML rules for single layers and tensors: a type or none, a device",
  },
  imatrix: {
    form: "--imatrix <file>",
    help: "importance: .imatrix or GGUF of llama.cpp, .cimatrix of mistral.rs",
    conflicts: ["calibrationFile"],
  },
  calibrationFile: {
    form: "--calibration-file <text>",
    help: "collect importance from this text with the unquantized model, and quantize with it",
  },
  organization: {
    form: "--organization <name>",
    help: "what is quantized: default, or moqe for routed experts only",
    choices: ORGANIZATIONS,
    preset: "default",
  },
  strict: { form: "--strict", help: "refuse fallback types, skipped tensors and dropped importance" },
  backend: {
    form: "--backend <name>",
    help: "where to work; auto takes the fastest that runs here",
    choices: BACKEND_CHOICES,
    preset: "auto",
  },
  device: {
    form: "--device <name>",
    help: "auto (a GPU if there is one), cpu, webgpu or webgpu[N]; cpu when left out",
    parse: refusing(parseDeviceChoice),
  },
  threads: {
    form: "--threads <count>",
    help: "worker threads; as many as processors when left out",
    parse: parseCount(1),
  },
  modelId: { form: "--model-id <path>", help: "the model's folder, or a GGUF or UQFF file" },
  arch: {
    form: "--arch <name>",
    help: `architecture (config.json says when left out): ${ARCHITECTURE_NAMES.join(" ")}`,
  },
  fromUqff: {
    form: "--from-uqff <files>",
    help: "UQFF files of the folder with the weights: the first shard, or NAME for NAME-0.uqff; or a type, as q4k",
  },
  writeUqff: { form: "--write-uqff <file>", help: "also save the quantized model: NAME.uqff" },
  tokenizerJson: { form: "--tokenizer-json <file>", help: "a tokenizer.json instead of the model's own" },
  chatTemplate: {
    form: "--chat-template <file>",
    help: "chat template instead of the model's own: Jinja, or JSON with the field chat_template",
  },
  tokenSource: {
    form: "--token-source <source>",
    help: "where a token for downloads comes from: none, because nothing is downloaded",
    choices: ["none"],
    preset: "none",
  },
  seed: {
    form: "--seed <number>",
    help: "the same seed gives the same text; greedy texts have none",
    parse: parseCount(0),
  },
  maxSeqs: {
    form: "--max-seqs <count>",
    help: "texts that run at the same time; more wait",
    parse: parseCount(1, 4096),
    preset: 16,
  },
  noKvCache: {
    form: "--no-kv-cache",
    help: "keep no keys and values: every token runs the whole text again",
    conflicts: ["pagedAttn", "paBlkSize", "prefixCacheN", ...PAGED_SIZES],
  },
  prefixCacheN: {
    form: "--prefix-cache-n <count>",
    help: "0: texts share no cache of equal beginnings; otherwise they do, as long as there is room",
    parse: parseCount(0),
    preset: 16,
    conflicts: ["noPagedAttn"],
  },
  promptBatchsize: {
    form: "--prompt-batchsize <tokens>",
    help: "most tokens of prompts in one step; 256 when left out",
    parse: parseCount(1),
  },
  numDeviceLayers: {
    form: "--num-device-layers <layers>",
    help: "layers that are on the device of --device, from the first: 16 or 0:16; the rest is on the CPU",
    parse: refusing(parseDeviceLayers),
  },
  truncateSequence: {
    form: "--truncate-sequence",
    help: "cut prompts that are too long, from their beginning, instead of refusing them",
  },
  throughput: { form: "--throughput", help: "in a conversation, tell the speed after each answer" },
  pagedAttn: {
    form: "--paged-attn",
    help: "share one cache of blocks between texts; the default",
    conflicts: ["noPagedAttn"],
  },
  noPagedAttn: {
    form: "--no-paged-attn",
    help: "one context of cache for all texts together, and nothing kept of finished ones",
    conflicts: ["paBlkSize", ...PAGED_SIZES],
  },
  paGpuMem: {
    form: "--pa-gpu-mem <megabytes>",
    help: "memory for the cache",
    parse: parseCount(1, 2 ** 32),
    conflicts: PAGED_SIZES.filter((size) => size !== "paGpuMem"),
  },
  paGpuMemUsage: {
    form: "--pa-gpu-mem-usage <share>",
    help: "memory for the cache, as a share of what is free: above 0, at most 1",
    parse: parseShare,
    conflicts: PAGED_SIZES.filter((size) => size !== "paGpuMemUsage"),
  },
  paCtxtLen: {
    form: "--pa-ctxt-len <tokens>",
    help: "positions that the cache has for all texts together",
    parse: parseCount(1),
    conflicts: PAGED_SIZES.filter((size) => size !== "paCtxtLen"),
  },
  paBlkSize: {
    form: "--pa-blk-size <tokens>",
    help: "positions of one cache block: 32, as the kernels have them",
    choices: ["32"],
  },
  apiKey: {
    form: "--api-key <key>",
    help: "the key that requests need, as a bearer token",
    env: "ISQ_API_KEY",
  },
} as const satisfies Record<string, FlagDefinition>;

export type FlagName = keyof typeof FLAGS;

/** An option whose attribute is its whole name: commander's own `--no-x` would say false of `x`. */
class PlainOption extends Option {
  constructor(flags: string, help: string) {
    super(flags, help);
    this.negate = false;
  }

  override attributeName(): string {
    return this.name().replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
  }
}

/** The option of a flag. `short` is a letter; a `preset` replaces the definition's. */
export function createFlag(
  name: FlagName,
  own: { readonly short?: string; readonly mandatory?: boolean; readonly preset?: unknown } = {},
): Option {
  const { form, help, parse, choices, preset, conflicts, env }: FlagDefinition = FLAGS[name];
  const option = new PlainOption(own.short ? `-${own.short}, ${form}` : form, help);
  if (choices) option.choices(choices);
  if (parse) option.argParser(parse);
  if (conflicts) option.conflicts([...conflicts]);
  if (env !== undefined) option.env(env);
  const value = own.preset ?? preset;
  if (value !== undefined) option.default(value);
  return option.makeOptionMandatory(own.mandatory ?? false);
}

/** Adds flags, those with a short letter as a pair. */
export function addFlags(
  command: Command,
  flags: readonly (FlagName | readonly [name: FlagName, short: string])[],
): Command {
  for (const flag of flags) {
    command.addOption(typeof flag === "string" ? createFlag(flag) : createFlag(flag[0], { short: flag[1] }));
  }
  return command;
}

/** Parses a whole number of at least `least` and at most `most`. */
export function parseCount(least: number, most = Number.MAX_SAFE_INTEGER): (value: string) => number {
  return (value) => {
    const count = Number(value);
    if (/^\d+$/.test(value) && Number.isSafeInteger(count) && count >= least && count <= most) return count;
    const end = most === Number.MAX_SAFE_INTEGER ? "" : ` to ${most}`;
    throw new InvalidArgumentError(`it must be a whole number from ${least}${end}.`);
  };
}

/** Parses a finite number of at least 0. */
export function parseNumber(value: string): number {
  const number = Number(value);
  if (value.trim() !== "" && Number.isFinite(number) && number >= 0) return number;
  throw new InvalidArgumentError("it must be a number from 0.");
}

/** Parses a number above 0, at most 1. */
export function parseShare(value: string): number {
  const share = parseNumber(value);
  if (share > 0 && share <= 1) return share;
  throw new InvalidArgumentError("it must be above 0 and at most 1.");
}

function parseTypeName(value: string): IsqType {
  return refusing(parseType)(value);
}

/** Turns refusals of the library into those of the parser. */
function refusing<Value>(parse: (value: string) => Value): (value: string) => Value {
  return (value) => {
    try {
      return parse(value);
    } catch (error) {
      if (isIsqError(error)) throw new InvalidArgumentError(error.message);
      throw error;
    }
  };
}
