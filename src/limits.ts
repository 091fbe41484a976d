/** Every cap in isq, each with its reason. Readers take overrides; nothing else in the code holds a limit. */
export const LIMITS = {
  /** Largest integer that JavaScript holds exactly; sizes above it are refused, never rounded. */
  safeInteger: Number.MAX_SAFE_INTEGER,
  /** Cap of the safetensors reference reader: a larger header is an allocation bomb (CWE-770). */
  safetensorsHeaderBytes: 100_000_000,
  /** JSON nests by recursion; a header needs three levels (CWE-674). */
  safetensorsHeaderDepth: 8,
  /** Keys of one object of a header or index: a million entries are some 60 MB of header (CWE-770). */
  jsonEntries: 1_000_000,
  /** Characters of a tensor's name, as GGUF's cap for keys: the longest public ones have about 200. */
  tensorNameLength: 65_535,
  /** Ranks above this appear in no transformer checkpoint; bounds work per entry (CWE-770). */
  tensorRank: 8,
  /** Shards of one checkpoint: the largest public ones have fewer than 200. */
  shardCount: 10_000,
  /** JSON side files (config, tokenizer, index) are read whole (CWE-770). The largest known tokenizer is 34 MB. */
  jsonBytes: 128 * 1024 * 1024,
  /** Bytes of one read: the most that one typed array holds in every supported runtime; larger tensors go by ranges. */
  rangeBytes: 2 ** 32 - 1,
  /** Elements of one tensor: typed arrays of V8 hold 2^32 - 1 elements at most; above that, rows are split. */
  tensorElements: 2 ** 32 - 1,
  /** Worker threads of one pool: more than any machine gains from; each takes memory of its own. */
  workers: 256,
  /** Largest values of config.json fields that any public model approaches, times about ten (CWE-789). */
  configLayers: 10_000,
  configWidth: 1_000_000,
  configHeads: 100_000,
  configVocabulary: 10_000_000,
  configContext: 100_000_000,
  /** Cases of one stream of vectors: case numbers are unsigned 32-bit words of its header. */
  vectorCount: 2 ** 32 - 1,
  /** Elements of one case, so that a line or record stays a few MB whatever a header says (CWE-770). */
  vectorColumns: 2 ** 20,
} as const;

/** Caps as a reader takes them: the defaults above, or others for some. */
export type Limits = Readonly<Record<keyof typeof LIMITS, number>>;
