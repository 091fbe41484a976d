// What was tried on the kernels that matter most: the same measurement with changed shaders. A change is a function of a
// module's text; what wins moves into gpu/, what loses stays here with its figures in bench/results.
import { GpuDevice } from "../../src/backends/webgpu-device.ts";
import { measureEncoder } from "./codecs.mjs";

const replace = (from, to) => (code) => {
  if (!code.includes(from)) throw new Error(`a variant no longer applies: ${from.slice(0, 60)}`);
  return code.replace(from, to);
};

/** Private arrays become workgroup memory: no registers, no spills, bank by bank. */
function inWorkgroup(code) {
  const start = code.indexOf("var<private> x: array");
  const moved = code
    .slice(start)
    .replace(/var<private> (x|w|l): array<f32, SUB>;/g, "var<workgroup> $1_all: array<f32, 64u * SUB>;")
    .replace(/\b(x|w|l)\[((?:[^[\]]|\[[^\]]*\])+?)\]/g, "$1_all[($2) * 64u + me]")
    .replace("var<private> x_least", "var<private> me: u32;\nvar<private> x_least");
  return (code.slice(0, start) + moved)
    .replace("wild = false;\ntake_unit(unit);", "me = thread;\nwild = false;\ntake_unit(unit);")
    .replace(
      "wild = false;\nfor (var i = 0u; i < HEAD_WORDS",
      "me = thread;\nwild = false;\nfor (var i = 0u; i < HEAD_WORDS",
    );
}

const SEARCHES = {
  "as it is": (code) => code,
  "arrays in workgroup memory": inWorkgroup,
  "codes again instead of kept": (code) =>
    replace(
      "let e = (product(scale, l[i]) + low) - x[i];",
      "let e = (product(scale, affine_code(product(error_factor, x[i] - error_low), error_largest)) + low) - x[i];",
    )(code)
      .replace(
        "fn affine_error(",
        "var<private> error_factor: f32;\nvar<private> error_low: f32;\nvar<private> error_largest: f32;\nfn affine_error(",
      )
      .replace(
        "code_affine(factor, low, grid.largest);\nvar best",
        "error_factor = factor; error_low = low; error_largest = grid.largest;\nvar best",
      )
      .replace("l[i] = code;\nlet wl = product(w[i], code);", "let wl = product(w[i], code);")
      .replace(
        "let error = affine_error(trial",
        "error_factor = factor; error_low = low;\nlet error = affine_error(trial",
      ),
};

const HEADS = `codes[thread] = own.x;
seconds[thread] = own.y;
workgroupBarrier();
if (thread < TILE_BLOCKS) {
let first = thread * BLOCK_QUADS;
var whole = vec2u(codes[first], seconds[first]);
for (var i = 1u; i < BLOCK_QUADS; i++) { whole = merge(whole, vec2u(codes[first + i], seconds[first + i])); }
wild = false;
heads[thread] = head_of(whole);
let block = tile * TILE_BLOCKS + thread;
if (wild & (block < blocks)) { flag_block(block); }
}
workgroupBarrier();
let head = heads[thread / BLOCK_QUADS];
let v = bitcast<vec4f>(x);
wild = false;`;

/** Every thread works out its block's head: one barrier less, and no thread waits while few work. */
const headEach = (code) =>
  replace(
    HEADS,
    `parts[thread] = own;
    workgroupBarrier();
    let first = thread - thread % BLOCK_QUADS;
    var whole = parts[first];
    for (var i = 1u; i < BLOCK_QUADS; i++) { whole = merge(whole, parts[first + i]); }
    wild = false;
    let head = head_of(whole);
    if (thread == first) { heads[thread / BLOCK_QUADS] = head; }
    let v = bitcast<vec4f>(x);`,
  )(code).replace(
    "var<workgroup> heads:",
    "var<workgroup> parts: array<vec2u, THREADS>;\nvar<workgroup> heads:",
  );

const PLAIN = {
  "as it is": (code) => code,
  "a head for every thread": headEach,
};

/** A second GpuDevice on the same device, whose shaders are changed. */
function change(gpu, edit, applies) {
  const own = new GpuDevice(gpu.device, gpu.pieceElements);
  const create = gpu.device.createShaderModule.bind(gpu.device);
  own.device.createShaderModule = ({ code }) => create({ code: applies(code) ? edit(code) : code });
  return own;
}

/** Encoders of `type` with each of the changes, which apply to modules that have the text `kernel`. */
async function measureChanges(gpu, timer, sizes, { type, kernel, changes }, upload, log) {
  const rows = [];
  const create = gpu.device.createShaderModule;
  for (const [variant, edit] of Object.entries(changes)) {
    const own = change(gpu, edit, (code) => code.includes(kernel));
    upload(own);
    const job = { type, algorithm: "ggml", count: sizes.elements, width: 4096 };
    try {
      rows.push({ variant, ...(await measureEncoder(own, timer, job, sizes.rounds)) });
    } catch (error) {
      rows.push({ variant, type, error: String(error.message) });
    }
    log(JSON.stringify(rows.at(-1)));
    own.release();
    gpu.device.createShaderModule = create;
  }
  return rows;
}

export async function measureVariants(gpu, timer, sizes, upload, log) {
  const measure = (job) => measureChanges(gpu, timer, sizes, job, upload, log);
  return [
    ...(await measure({ type: "Q8_0", kernel: "fn report_non_finite(", changes: PLAIN })),
    ...(await measure({ type: "Q4_0", kernel: "fn report_non_finite(", changes: PLAIN })),
    ...(await measure({ type: "Q4K", kernel: "fn search(", changes: SEARCHES })),
  ];
}
