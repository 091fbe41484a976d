/** Every cap in isq, each with its reason. Readers take overrides; nothing else in the code holds a limit. */
export const LIMITS = {
  /** Largest integer that JavaScript holds exactly; sizes above it are refused, never rounded. */
  safeInteger: Number.MAX_SAFE_INTEGER,
  /** Cap of the safetensors reference reader: a larger header is an allocation bomb (CWE-770). */
  safetensorsHeaderBytes: 100_000_000,
  /** The reference reader parses JSON recursively; a tensor entry nests two levels (CWE-674). */
  safetensorsHeaderDepth: 8,
  /** Ranks above this appear in no transformer checkpoint; bounds work per entry (CWE-770). */
  tensorRank: 8,
  /** Shards of one checkpoint: the largest public ones have fewer than 200. */
  shardCount: 10_000,
  /** JSON side files (config, tokenizer, index) are read whole (CWE-770). The largest known tokenizer is 34 MB. */
  jsonBytes: 128 * 1024 * 1024,
  /** Elements of one tensor: typed arrays of V8 hold 2^32 - 1 elements at most; above that, rows are split. */
  tensorElements: 2 ** 32 - 1,
  /** Largest values of config.json fields that any public model approaches, times about ten (CWE-789). */
  configLayers: 10_000,
  configWidth: 1_000_000,
  configHeads: 100_000,
  configVocabulary: 10_000_000,
  configContext: 100_000_000,
} as const;
