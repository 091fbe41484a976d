// What was tried on the kernels that matter most: the same measurement with changed shaders. A change is a function of a
// module's text; what wins moves into gpu/, what loses stays here with its figures in bench/results.
import { GpuDevice } from "../../src/backends/webgpu-device.ts";
import { measureEncoder } from "./codecs.mjs";
import { measureProduct } from "./products.mjs";

const replace = (from, to) => (code) => {
  if (!code.includes(from)) throw new Error(`a variant no longer applies: ${from.slice(0, 60)}`);
  return code.replace(from, to);
};

const LOOP =
  "for (var u = thread % TEAM; u < units; u += TEAM) { sum += unit_dot(load_unit(output * units + u), 0u, u); }";

/** `n` units are loaded before the first is used. */
const unrolled = (n) =>
  replace(
    LOOP,
    `let base = output * units;
    var u = thread % TEAM;
    for (; u + ${n - 1}u * TEAM < units; u += ${n}u * TEAM) {
      ${Array.from({ length: n }, (_, k) => `let unit${k} = load_unit(base + u + ${k}u * TEAM);`).join("\n")}
      ${Array.from({ length: n }, (_, k) => `sum += unit_dot(unit${k}, 0u, u + ${k}u * TEAM);`).join("\n")}
    }
    for (; u < units; u += TEAM) { sum += unit_dot(load_unit(base + u), 0u, u); }`,
  );

/** Neighbouring threads take neighbouring halves of the row instead of neighbouring units. */
const split = replace(
  LOOP,
  LOOP.replace(
    "var u = thread % TEAM; u < units; u += TEAM",
    "var u = (thread % TEAM) * ((units + TEAM - 1u) / TEAM); u < min(units, (thread % TEAM + 1u) * ((units + TEAM - 1u) / TEAM)); u++",
  ),
);

const PRODUCTS = {
  "as it is": (code) => code,
  "two units at a time": unrolled(2),
  "four units at a time": unrolled(4),
  "a run of units to a thread": split,
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

/** A second GpuDevice on the same device, whose shaders are changed. */
function change(gpu, edit, applies) {
  const own = new GpuDevice(gpu.device, gpu.pieceElements);
  const create = gpu.device.createShaderModule.bind(gpu.device);
  own.device.createShaderModule = ({ code }) => create({ code: applies(code) ? edit(code) : code });
  return own;
}

export async function measureVariants(gpu, timer, sizes, copy, upload, log) {
  const rows = [];
  const create = gpu.device.createShaderModule;
  const note = (row) => {
    rows.push(row);
    log(JSON.stringify(row));
  };
  for (const type of ["Q4K", "Q8_0", "Q6K"]) {
    for (const [variant, edit] of Object.entries(PRODUCTS)) {
      const own = change(gpu, edit, (code) => code.includes("fn matvec("));
      for (const [outputs, columns] of sizes.shapes) {
        const row = await measureProduct(own, timer, { ...sizes, type, outputs, columns }, copy);
        note({ variant, ...row });
      }
      own.release();
      gpu.device.createShaderModule = create;
    }
  }
  for (const [variant, edit] of Object.entries(SEARCHES)) {
    const own = change(gpu, edit, (code) => code.includes("fn search("));
    upload(own);
    const job = { type: "Q4K", algorithm: "ggml", count: sizes.elements, width: 4096 };
    try {
      note({ variant, ...(await measureEncoder(own, timer, job, sizes.rounds)) });
    } catch (error) {
      note({ variant, error: String(error.message) });
    }
    own.release();
    gpu.device.createShaderModule = create;
  }
  return rows;
}
