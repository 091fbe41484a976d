// Tokens per second of synthetic Llamas in Q4K, one token at a time, through the same model and session that applications use.
// The bound is reading every weight of a token once at the copy bandwidth of this run. Two shapes: what a 1 B Llama 3.2 has,
// many narrow layers and a large vocabulary, and 1.1 · 10^9 parameters in a few layers as wide as those of an 8 B Llama.
import { webgpu } from "../../src/backends/webgpu.ts";
import { compileModel } from "../../src/model/architectures/index.ts";
import { parseConfig } from "../../src/model/config.ts";
import { LanguageModel } from "../../src/model/language-model.ts";
import { pickLargest } from "../../src/model/sampler.ts";
import { elementCount } from "../../src/quants/tensor.ts";

const SHAPES = {
  "16 layers of 2048 (a 1 B Llama 3.2)": {
    hidden_size: 2048,
    intermediate_size: 8192,
    num_hidden_layers: 16,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    vocab_size: 128256,
  },
  "4 layers of 4096 (layers of an 8 B Llama)": {
    hidden_size: 4096,
    intermediate_size: 14336,
    num_hidden_layers: 4,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    vocab_size: 32000,
  },
};
const SMALL = {
  hidden_size: 256,
  intermediate_size: 512,
  num_hidden_layers: 2,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  vocab_size: 512,
};

export const configOf = (sizes) =>
  parseConfig(
    JSON.stringify({
      architectures: ["LlamaForCausalLM"],
      model_type: "llama",
      hidden_act: "silu",
      max_position_embeddings: 4096,
      rms_norm_eps: 1e-5,
      rope_theta: 500000,
      tie_word_embeddings: false,
      torch_dtype: "bfloat16",
      ...sizes,
    }),
  );

/** Blocks with random codes and scales that make weights of about 0.02. */
function randomQ4K(shape, seed) {
  const blocks = elementCount(shape) / 256;
  const words = new Uint32Array(blocks * 36);
  let state = seed * 2654435761 + 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  for (let block = 0; block < blocks; block++) words[36 * block] = 0x14000880; // d ≈ 1.3e-4, dmin ≈ 9.8e-4
  return { type: "Q4K", algorithm: "ggml", shape, data: new Uint8Array(words.buffer) };
}

export function placeAll(program, session) {
  return program.weights.reduce(async (before, { shape, role }, index) => {
    await before;
    if (role === "norm") {
      const data = new Uint8Array(new Float32Array(shape[0]).fill(1).buffer);
      return session.place(index, { type: "F32", shape, data });
    }
    return session.place(index, randomQ4K(shape, index + 1));
  }, Promise.resolve());
}

/** Seconds of a step without a model around it: the session alone, greedy. */
async function timeSteps(session, steps, first) {
  const start = performance.now();
  let token = 1;
  for (let i = 0; i < steps; i++) {
    const logits = await session.run(batchOf(token, first + i));
    token = Math.abs(Math.round(logits[0] * 1000)) % 100;
  }
  return (performance.now() - start) / 1000 / steps;
}

const row = (value) => Int32Array.of(value);
export const batchOf = (token, position) => ({
  tokens: row(token),
  positions: row(position),
  sequences: row(0),
  blockTables: [Int32Array.from({ length: 16 }, (_, n) => n)],
  outputs: row(0),
});

/** What the GPU does of a step, or of a part of it, without submission and reading back. The least of some passes. */
async function timeKernels(session, rounds, batch, only) {
  let best = { seconds: Number.POSITIVE_INFINITY };
  for (let i = 0; i < 20 * rounds; i++) {
    const own = await session.time(batch, only);
    if (own.seconds < best.seconds) best = own;
  }
  return best;
}

/**
 * Steps in few dispatches against one kernel for each operation, on a small model: products are summed in another order, and a
 * code of the activations that falls the other way moves a logit by some thousandths.
 */
async function compareSteps(steps) {
  const sizes = {
    ...SMALL,
    hidden_size: 512,
    intermediate_size: 1024,
    num_hidden_layers: 3,
    vocab_size: 1024,
  };
  const program = compileModel(configOf(sizes));
  const runs = [];
  for (const plain of [true, false]) {
    const backend = await webgpu({ plain });
    const session = await backend.open(program, { cachePositions: 512 });
    await placeAll(program, session);
    const rows = [];
    for (let i = 0; i < steps; i++) rows.push(await session.run(batchOf((7 * i) % 100, i)));
    const again = await session.run(batchOf((7 * (steps - 1)) % 100, steps - 1));
    if (again.some((value, i) => !Object.is(value, rows[steps - 1][i])))
      throw new Error("a second run differs");
    runs.push(rows);
    await backend.dispose();
  }
  let [difference, size, sameToken] = [0, 0, 0];
  for (const [i, row] of runs[0].entries()) {
    const other = runs[1][i];
    for (let k = 0; k < row.length; k++) {
      difference = Math.max(difference, Math.abs(row[k] - other[k]));
      size = Math.max(size, Math.abs(row[k]));
    }
    if (pickLargest(row) === pickLargest(other)) sameToken++;
  }
  if (!(difference < 0.05 * size)) throw new Error(`logits differ by ${difference} of ${size}`);
  return { steps, largestDifference: difference, largestLogit: size, sameToken };
}

/** Greedy text through the model: seconds of a token after the first. */
async function timeText(model, sampler, tokens, rounds) {
  const prompt = Array.from({ length: 16 }, (_, i) => i + 1);
  let seconds = Number.POSITIVE_INFINITY;
  for (let i = 0; i < rounds; i++) {
    let start = 0;
    let count = -1; // the first token waits for the prompt
    for await (const _ of model.stream(prompt, { maxTokens: tokens + 1, sampler })) {
      if (count++ < 0) start = performance.now();
    }
    seconds = Math.min(seconds, (performance.now() - start) / 1000 / count);
  }
  return seconds;
}

const round = (value) => Number(value.toPrecision(4));
const micro = (seconds) => Number((1e6 * seconds).toFixed(1));

/** Where the time of a token goes, in microseconds. A pass takes a few by itself, which is taken off parts of a step. */
async function findRest(session, rounds, { kernels, token, gap }) {
  const batch = batchOf(1, 132);
  const part = async (only) => (await timeKernels(session, rounds, batch, only)).seconds;
  const pass = await part(({ entryPoint }) => entryPoint === "embed");
  const attention = (await part(({ entryPoint }) => /^attend|^store|^rope/.test(entryPoint))) - pass;
  const products = (await part(({ entryPoint }) => /^step_linear|^matvec/.test(entryPoint))) - pass;
  const choosing = (await part(({ entryPoint }) => /^choose/.test(entryPoint))) - pass;
  return {
    kernels: micro(kernels.seconds),
    attention: micro(attention),
    products: micro(products),
    choosingTheLikeliest: micro(choosing),
    otherKernels: micro(kernels.seconds - attention - products - choosing),
    gapsAmongThem: micro(gap * kernels.dispatches),
    notKernels: micro(token - kernels.seconds),
  };
}

/** Greedy text of a model, the seconds of a token, and, where asked for, of what else there is to know of its session. */
async function measureModel(program, options, { tokens, small, rounds }, look) {
  const backend = await webgpu(options);
  const session = await backend.open(program, { cachePositions: 512 });
  await placeAll(program, session);
  // Clocks rise while the GPU is busy.
  const busy = performance.now() + (small ? 0 : 1000);
  do await timeSteps(session, small ? 2 : 20, 0);
  while (performance.now() < busy);
  const model = new LanguageModel(program, session, { cachePositions: 512 });
  const sampler = (logits) => pickLargest(logits, backend.logitKernels);
  const token = await timeText(model, sampler, tokens, rounds);
  const rest = look ? await look(session, token) : {};
  await model.dispose();
  await backend.dispose();
  return { token, ...rest };
}

async function measureShape(name, sizes, { small, rounds, plain, gap }, copy, log) {
  const program = compileModel(configOf(sizes));
  const linears = program.weights.filter(({ role }) => role === "linear" || role === "head");
  const bytes = linears.reduce((sum, { shape }) => sum + (elementCount(shape) / 256) * 144, 0);
  const tokens = small ? 4 : 200;
  const settings = { tokens, small, rounds };
  const { token, kernels, rest } = await measureModel(
    program,
    { plain },
    settings,
    async (session, token) => {
      const kernels = await timeKernels(session, small ? 0.1 : rounds, batchOf(1, 132));
      return { kernels, rest: await findRest(session, small ? 0.1 : rounds, { kernels, token, gap }) };
    },
  );
  const alone = await measureModel(program, { plain, ahead: 0 }, settings);
  const bound = bytes / (copy * 1e9);
  const result = {
    shape: name,
    parameters: program.weights.reduce((sum, { shape }) => sum + elementCount(shape), 0),
    type: "Q4K",
    contexts: [16, 16 + tokens],
    weightBytesPerToken: bytes,
    boundTokensPerSecond: round(1 / bound),
    tokensPerSecond: round(1 / token),
    shareOfBandwidthBound: round(bound / token),
    nothingAhead: {
      tokensPerSecond: round(1 / alone.token),
      shareOfBandwidthBound: round(bound / alone.token),
    },
    dispatches: kernels.dispatches,
    shareOfKernels: round(bound / kernels.seconds),
    microseconds: { bound: micro(bound), token: micro(token), nothingAhead: micro(alone.token), ...rest },
  };
  log(JSON.stringify(result));
  return result;
}

/** @param gap Seconds between two dispatches. */
export async function measureGeneration({ size, rounds, plain, gap }, copy, log) {
  const small = size === "small";
  const fusedAgainstPlain = await compareSteps(small ? 3 : 300);
  log(JSON.stringify(fusedAgainstPlain));
  const shapes = [];
  for (const [name, sizes] of Object.entries(small ? { small: SMALL } : SHAPES)) {
    shapes.push(await measureShape(name, sizes, { small, rounds, plain, gap }, copy, log));
  }
  return { microsecondsBetweenDispatches: micro(gap), shapes, fusedAgainstPlain };
}
