/**
 * How byte-level tokenizers cut text before they merge: GGUF files have a name for it (`tokenizer.ggml.pre`, the names are
 * llama.cpp's), tokenizer.json the rules themselves. Those with a name here are read and written.
 */

export interface PreTokenizer {
  /** The first is written. */
  readonly names: readonly string[];
  /** As in tokenizer.json. */
  readonly normalizer: unknown;
  readonly rules: readonly unknown[];
  /** A piece that is a token stays whole, whatever the merges say. */
  readonly ignoreMerges?: boolean;
}

const byteLevel = (use_regex: boolean) => ({
  ...{ type: "ByteLevel", add_prefix_space: false, trim_offsets: true },
  use_regex,
});
const split = (Regex: string, behavior = "Isolated") => ({
  ...{ type: "Split", pattern: { Regex }, behavior },
  invert: false,
});

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const SPACES = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
/** The rule of GPT-4's family, with so many digits in one piece. */
const modern = (digits: string) =>
  `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${SPACES}`;
const UPPER = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const LOWER = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const TEKKEN =
  `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*|\\p{N}` +
  `| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${SPACES}`;

export const PRE_TOKENIZERS: readonly PreTokenizer[] = [
  { names: ["gpt-2", "phi-2", "mpt", "olmo", "jais"], normalizer: null, rules: [byteLevel(true)] },
  {
    names: ["llama-bpe", "llama3", "llama-v3", "smaug-bpe", "dbrx"],
    normalizer: null,
    rules: [split(modern("\\p{N}{1,3}")), byteLevel(false)],
    ignoreMerges: true,
  },
  {
    names: ["qwen2", "deepseek-r1-qwen"],
    normalizer: { type: "NFC" },
    rules: [split(modern("\\p{N}")), byteLevel(false)],
  },
  {
    names: ["starcoder", "refact", "command-r", "smollm", "codeshell"],
    normalizer: null,
    rules: [{ type: "Digits", individual_digits: true }, byteLevel(true)],
  },
  { names: ["tekken"], normalizer: null, rules: [split(TEKKEN), byteLevel(false)], ignoreMerges: true },
];

/** The rules of a name, or null. */
export function preTokenizerNamed(name: string): PreTokenizer | null {
  return PRE_TOKENIZERS.find(({ names }) => names.includes(name)) ?? null;
}

/** The row that a tokenizer.json has, or null. Switches that change nothing here are not looked at. */
export function preTokenizerOf(normalizer: unknown, preTokenizer: unknown): PreTokenizer | null {
  const wanted = describe(flatten(preTokenizer, "pretokenizers"));
  const normal = describe(flatten(normalizer, "normalizers"));
  const suits = (row: PreTokenizer) =>
    describe(row.rules) === wanted && describe(flatten(row.normalizer, "normalizers")) === normal;
  return PRE_TOKENIZERS.find(suits) ?? null;
}

function flatten(rule: unknown, list: string): readonly unknown[] {
  if (rule === null || rule === undefined) return [];
  const { type, [list]: parts } = rule as Record<string, unknown>;
  return type === "Sequence" && Array.isArray(parts) ? parts.flatMap((part) => flatten(part, list)) : [rule];
}

/** What of rules counts, as text. */
function describe(rules: readonly unknown[]): string {
  const picked = rules.map((rule) => {
    const { type, pattern, behavior, add_prefix_space, use_regex, individual_digits, invert } =
      rule as Record<string, unknown>;
    return [type, pattern, behavior, invert ?? false, add_prefix_space, use_regex, individual_digits];
  });
  return JSON.stringify(picked);
}
