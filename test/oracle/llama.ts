/**
 * libllama of the published llama.cpp build: models loaded from GGUF files, their logits, and its quantizer. The parameter
 * structs are taken from its own `…_default_params` and a few fields set by offset, which is checked against known defaults.
 */

import { join } from "node:path";

type Native = (...args: unknown[]) => unknown;

export interface LlamaModel {
  readonly vocabulary: number;
  /** Logits after every token, [tokens × vocabulary], computed with an F32 cache and without flash attention. */
  logits(tokens: readonly number[]): Float32Array;
  /**
   * Runs tokens and shows what goes into every product of a matrix: the matrix's name and its inputs, [rows × columns],
   * through the callback that llama-imatrix collects with.
   */
  observe(
    tokens: readonly number[],
    visit: (weight: string, inputs: Float32Array, columns: number) => void,
  ): void;
  /** Token ids of a text. */
  tokenize(text: string, options?: { readonly special?: boolean }): number[];
  /** The text of tokens. */
  detokenize(tokens: readonly number[]): string;
  /** A metadata value as text, or null. */
  metadata(key: string): string | null;
  free(): void;
}

export interface Llama {
  /** Throws when the library refuses the file; the message has its log. */
  load(path: string): LlamaModel;
  /** Loads no more of a file than its metadata. */
  loadVocabulary(path: string): Pick<LlamaModel, "tokenize" | "free">;
  /** Copies the metadata of a file with ggml's own writer: a file without tensors, as llama.cpp tests vocabularies with. */
  saveVocabulary(from: string, to: string): void;
  /** `llama_model_quantize` to llama.cpp's file type number; every matrix to one type unless `pure` is false. */
  quantize(from: string, to: string, fileType: number, pure?: boolean): void;
}

/** Bytes given to structs that are passed by value: at least their size, more does no harm. */
const ROOM = 512;

export async function openLlama(): Promise<Llama> {
  const { default: koffi } = await import("koffi");
  const binaries: string = "@node-llama-cpp/linux-x64";
  const { getBinsDir } = (await import(binaries)) as { getBinsDir(): { binsDir: string } };
  const folder = join(getBinsDir().binsDir, "linux-x64");
  const ggml = koffi.load(join(folder, "libggml.v0.5.0.so"));
  const llama = koffi.load(join(folder, "libllama.v0.5.0.so"));
  koffi.struct("Params", { bytes: koffi.array("uint8", ROOM) });
  koffi.struct("Batch", {
    n_tokens: "int",
    token: "int *",
    embd: "float *",
    pos: "int *",
    n_seq_id: "int *",
    seq_id: "void *",
    logits: "int8_t *",
  });
  const bind = (signature: string): Native => llama.func(signature) as Native;

  const lines: string[] = [];
  const logger = koffi.proto("void LlamaLog(int level, const char *text, void *user)");
  const keep = koffi.register((_: number, text: string) => void lines.push(text), koffi.pointer(logger));
  bind("void llama_log_set(LlamaLog *callback, void *user)")(keep, null);
  (ggml.func("void *ggml_backend_load(const char *path)") as Native)(join(folder, "libggml-cpu-x64.so"));
  bind("void llama_backend_init()")();

  /** What a `…_default_params` function returns, through the hidden pointer of the calling convention. */
  const defaults = (name: string, known: Readonly<Record<number, number>>): DataView => {
    const bytes = new Uint8Array(ROOM);
    bind(`void *${name}(_Out_ uint8_t *out)`)(bytes);
    const view = new DataView(bytes.buffer);
    for (const [offset, value] of Object.entries(known)) {
      const found = view.getInt32(Number(offset), true);
      if (found !== value) throw new Error(`${name} has ${found} at ${offset}, not ${value}: another layout`);
    }
    return view;
  };
  const asStruct = (view: DataView) => ({ bytes: new Uint8Array(view.buffer) });

  const loadModel = bind("void *llama_model_load_from_file(const char *path, Params params)");
  const freeModel = bind("void llama_model_free(void *model)");
  const getVocabulary = bind("void *llama_model_get_vocab(void *model)");
  const countTokens = bind("int llama_vocab_n_tokens(void *vocabulary)");
  const openContext = bind("void *llama_init_from_model(void *model, Params params)");
  const freeContext = bind("void llama_free(void *context)");
  const decode = bind("int llama_decode(void *context, Batch batch)");
  const getLogits = bind("void *llama_get_logits_ith(void *context, int index)");
  const tokenize = bind(
    "int llama_tokenize(void *vocabulary, const char *text, int bytes, _Out_ int *tokens, int most, bool add, bool special)",
  );
  const detokenize = bind(
    "int llama_detokenize(void *vocabulary, const int *tokens, int count, _Out_ uint8_t *text, int most, bool remove, bool unparse)",
  );
  const getMetadata = bind(
    "int llama_model_meta_val_str(void *model, const char *key, _Out_ uint8_t *text, size_t most)",
  );

  const evaluate = koffi.proto("bool LlamaEvaluate(void *tensor, bool ask, void *user)");

  const createModel = (model: unknown): LlamaModel => {
    const vocabulary = getVocabulary(model);
    const width = countTokens(vocabulary) as number;
    /** Decodes all tokens in a context of their own; `use` may look at it before it is gone. */
    const run = (tokens: readonly number[], callback: bigint, use: (context: unknown) => void) => {
      const params = defaults("llama_context_default_params", CONTEXT_DEFAULTS);
      params.setInt32(CONTEXT.positions, Math.max(256, tokens.length), true);
      params.setInt32(CONTEXT.threads, 1, true);
      params.setInt32(CONTEXT.batchThreads, 1, true);
      params.setInt32(CONTEXT.flashAttention, 0, true);
      params.setInt32(CONTEXT.keyType, 0, true);
      params.setInt32(CONTEXT.valueType, 0, true);
      params.setBigUint64(CONTEXT.evaluate, callback, true);
      const context = openContext(model, asStruct(params));
      if (!context) throw new Error(`no context: ${lines.slice(-20).join("")}`);
      try {
        const status = decode(context, {
          n_tokens: tokens.length,
          token: Int32Array.from(tokens),
          embd: null,
          pos: Int32Array.from(tokens, (_, i) => i),
          n_seq_id: null,
          seq_id: null,
          logits: new Int8Array(tokens.length).fill(1),
        });
        if (status !== 0) throw new Error(`llama_decode gave ${status}: ${lines.slice(-20).join("")}`);
        use(context);
      } finally {
        freeContext(context);
      }
    };
    return {
      vocabulary: width,
      logits(tokens) {
        const all = new Float32Array(tokens.length * width);
        run(tokens, 0n, (context) => {
          for (let i = 0; i < tokens.length; i++) {
            all.set(koffi.decode(getLogits(context, i), "float", width) as Float32Array, i * width);
          }
        });
        return all;
      },
      observe(tokens, visit) {
        const look = (tensor: bigint, ask: boolean): boolean => {
          const node = new DataView(koffi.view(tensor, TENSOR.bytes));
          if (node.getInt32(TENSOR.operation, true) !== MULTIPLY) return !ask;
          const [weight, inputs] = [0, 8].map(
            (at) => new DataView(koffi.view(node.getBigUint64(TENSOR.sources + at, true), TENSOR.bytes)),
          );
          const name = new Uint8Array(weight.buffer, weight.byteOffset + TENSOR.name, 64);
          const text = new TextDecoder().decode(name.subarray(0, name.indexOf(0)));
          if (!text.endsWith(".weight")) return !ask;
          if (ask) return true;
          const [columns, rows] = [0, 8].map((at) => Number(inputs.getBigInt64(TENSOR.sizes + at, true)));
          if (inputs.getInt32(0, true) !== 0) throw new Error(`the inputs of ${text} are not F32`);
          const data = inputs.getBigUint64(TENSOR.data, true);
          visit(text, new Float32Array(koffi.view(data, 4 * columns * rows).slice(0)), columns);
          return true;
        };
        const callback = koffi.register(look, koffi.pointer(evaluate));
        try {
          run(tokens, koffi.address(callback), () => {});
        } finally {
          koffi.unregister(callback);
        }
      },
      tokenize(text, { special = false } = {}) {
        const bytes = Buffer.byteLength(text);
        const tokens = new Int32Array(bytes + 16);
        const count = tokenize(vocabulary, text, bytes, tokens, tokens.length, false, special) as number;
        return [...tokens.subarray(0, count)];
      },
      detokenize(tokens) {
        const text = new Uint8Array(64 * tokens.length + 64);
        const ids = Int32Array.from(tokens);
        const count = detokenize(vocabulary, ids, ids.length, text, text.length, false, false) as number;
        return new TextDecoder().decode(text.subarray(0, count));
      },
      metadata(key) {
        const text = new Uint8Array(4096);
        const count = getMetadata(model, key, text, text.length) as number;
        return count < 0 ? null : new TextDecoder().decode(text.subarray(0, count));
      },
      free: () => void freeModel(model),
    };
  };

  return {
    load(path) {
      lines.length = 0;
      const model = loadModel(path, asStruct(defaults("llama_model_default_params", MODEL_DEFAULTS)));
      if (!model) throw new Error(`llama.cpp refused ${path}:\n${lines.join("")}`);
      return createModel(model);
    },
    saveVocabulary(from, to) {
      const base = koffi.load(join(folder, "libggml-base.so"));
      koffi.struct("GgufInit", { no_alloc: "bool", ctx: "void *" });
      const call = (signature: string) => base.func(signature) as Native;
      const open = call("void *gguf_init_from_file(const char *path, GgufInit params)");
      const source = open(from, { no_alloc: true, ctx: null });
      const target = call("void *gguf_init_empty()")();
      call("void gguf_set_kv(void *to, void *from)")(target, source);
      const written = call("bool gguf_write_to_file(void *file, const char *path, bool header)")(
        target,
        to,
        true,
      );
      for (const file of [source, target]) call("void gguf_free(void *file)")(file);
      if (!written) throw new Error(`ggml could not write ${to}`);
    },
    loadVocabulary(path) {
      const params = defaults("llama_model_default_params", MODEL_DEFAULTS);
      params.setUint8(VOCABULARY_ONLY, 1);
      const model = loadModel(path, asStruct(params));
      if (!model) throw new Error(`llama.cpp refused ${path}:\n${lines.join("")}`);
      return createModel(model);
    },
    quantize(from, to, fileType, pure = true) {
      lines.length = 0;
      const params = defaults("llama_model_quantize_default_params", QUANTIZE_DEFAULTS);
      params.setInt32(QUANTIZE.threads, 1, true);
      params.setInt32(QUANTIZE.fileType, fileType, true);
      params.setUint8(QUANTIZE.pure, Number(pure));
      const quantizeFile = bind(
        "uint32_t llama_model_quantize(const char *from, const char *to, uint8_t *params)",
      );
      const status = quantizeFile(from, to, new Uint8Array(params.buffer));
      if (status !== 0) throw new Error(`llama_model_quantize gave ${status}:\n${lines.join("")}`);
    },
  };
}

const CONTEXT = {
  positions: 0,
  threads: 0x1c,
  batchThreads: 0x20,
  flashAttention: 0x34,
  evaluate: 0x58,
  keyType: 0x68,
  valueType: 0x6c,
};
/** Fields of ggml_tensor, by offset: type (0 is F32), four sizes, operation, sources, data, name. */
const TENSOR = { bytes: 320, sizes: 16, operation: 80, sources: 152, data: 248, name: 256 };
/** GGML_OP_MUL_MAT. */
const MULTIPLY = 29;
const CONTEXT_DEFAULTS = { 0: 512, 4: 2048, 8: 512, 28: 4, 32: 4, 52: -1, 104: 1, 108: 1 };
const MODEL_DEFAULTS = { 16: -1, 20: 1, 72: 0x10000 };
/** The first of the switches behind the pointers. */
const VOCABULARY_ONLY = 72;
const QUANTIZE = { threads: 0, fileType: 4, pure: 0x13 };
/** Threads, Q5_1... the default file type, output and embedding type "none", and four switches of which the second is on. */
const QUANTIZE_DEFAULTS = { 0: 0, 4: 7, 8: 43, 12: 43, 16: 0x100 };
