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
  /** Header of one GGUF file, all of which is read: the largest known have 40 MB, of tokens and merges (CWE-770). */
  ggufHeaderBytes: 256 * 1024 * 1024,
  /** Metadata keys of one GGUF file: the longest public ones have about 100 (CVE-2024-23605). */
  ggufKeys: 65_536,
  /** Bytes of a metadata key, the cap of the specification. */
  ggufKeyBytes: 65_535,
  /** Bytes of one string: chat templates and licences stay below 1 MB (CVE-2024-23496). */
  ggufStringBytes: 16 * 1024 * 1024,
  /** Items of one array of numbers (CVE-2024-21825). */
  ggufArrayItems: 16 * 1024 * 1024,
  /**
   * Strings and inner arrays in all arrays of one file: each takes some 40 bytes of memory beside its content. The largest
   * vocabularies have 262144 tokens and twice as many merges.
   */
  ggufArrayObjects: 4_000_000,
  /** Arrays nest by recursion (CWE-674); no known file has more than one level. */
  ggufArrayDepth: 4,
  /** Tensors of one GGUF file: a million entries are some 40 MB of header (CVE-2024-21836). */
  ggufTensors: 1_000_000,
  /** Bytes of a tensor name: ggml keeps 64 with the final zero. */
  ggufNameBytes: 63,
  /** Dimensions of a tensor: ggml has four (CVE-2024-21802). */
  ggufRank: 4,
  /** Alignment of the data: real files have 32; a huge one wastes that much per tensor (CWE-770). */
  ggufAlignment: 1024 * 1024,
  /** Bytes of an importance matrix, which is read whole: those of the largest mixtures of experts have some 1.5 GB (CWE-770). */
  imatrixBytes: 2 ** 31 - 1,
  /** Entries of an importance matrix: ten per layer of the deepest models, times experts where they are apart. */
  imatrixEntries: 1_000_000,
  /**
   * Bytes of a topology file: a rule for each layer of the deepest models takes a few kB, and the YAML reader takes
   * quadratic time for anchors (CWE-770).
   */
  topologyBytes: 32 * 1024,
  /** Levels of a topology file: rules and their fields; the YAML reader recurses (CWE-674). */
  topologyDepth: 8,
  /** Characters of a pattern: the longest tensor names have about 200. */
  patternLength: 512,
  /** States of a compiled pattern: counted repetitions multiply, and every name walks over all states (CWE-1333). */
  patternStates: 1000,
  /** Bytes of a text that is measured or calibrated with: it is tokenized whole, and a tenth would take days (CWE-770). */
  textBytes: 256 * 1024 * 1024,
  /** Rules of a topology: every tensor is held against all of them. */
  topologyRules: 1000,
  /** Groups inside groups of a pattern, which is parsed by recursion (CWE-674). */
  patternDepth: 32,
  /** Shards of one checkpoint: the largest public ones have fewer than 200. */
  shardCount: 10_000,
  /** JSON side files (config, tokenizer, index) are read whole (CWE-770). The largest known tokenizer is 34 MB. */
  jsonBytes: 128 * 1024 * 1024,
  /** Repetitions in a row in a pattern of a tokenizer, whose time is this power of a text's length (CWE-1333). Known ones have two. */
  tokenizerRepetitions: 4,
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
  configExperts: 10_000,
  /** Weights of one model: layers times experts, the cap of a checkpoint's tensors (CWE-789). */
  configWeights: 1_000_000,
  configVocabulary: 10_000_000,
  configContext: 100_000_000,
  /** Work of a chat template, in characters copied: a megabyte of messages takes a twentieth (CWE-834, CVE-2024-34359). */
  templateWork: 200_000_000,
  /** Characters of one value of a template; items of lists count 8: some functions take memory by the match (CWE-789). */
  templateValue: 8_000_000,
  /** Stop strings of one text, and characters of each: every piece of text is searched for all of them (CWE-407). */
  stopStrings: 16,
  stopLength: 1024,
  /** Texts that run at the same time: each takes a row of every step and blocks of the cache (CWE-770). */
  sequences: 4096,
  /** Cases of one stream of vectors: case numbers are unsigned 32-bit words of its header. */
  vectorCount: 2 ** 32 - 1,
  /** Elements of one case, so that a line or record stays a few MB whatever a header says (CWE-770). */
  vectorColumns: 2 ** 20,
} as const;

/** Caps as a reader takes them: the defaults above, or others for some. */
export type Limits = Readonly<Record<keyof typeof LIMITS, number>>;
