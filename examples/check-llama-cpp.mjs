// Checks llama.cpp's own encoder, called in the published library through koffi:
//
//   npm install koffi @node-llama-cpp/linux-x64
//   npx isq vectors run --type Q4K --seed 7 --count 10000 --format binary -- node examples/check-llama-cpp.mjs
//
// The cases arrive on standard input as fixed-size records behind a header of 64 bytes (docs/oracle.md); the header goes
// out again, then one answer per case.

import { once } from "node:events";
import { join } from "node:path";
import { getBinsDir } from "@node-llama-cpp/linux-x64";
import koffi from "koffi";

const library = koffi.load(join(getBinsDir().binsDir, "linux-x64", "libggml-base.so"));
const quantizeChunk = library.func(
  "size_t ggml_quantize_chunk(int type, const float *x, void *y, int64_t start, int64_t rows, int64_t columns, const float *importance)",
);

/** ggml's numbers of the types. ggml_quantize_chunk stops the process on Q8_1 and Q8_K. */
const TYPE_IDS = { Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7, Q8_0: 8, Q2K: 10, Q3K: 11, Q4K: 12, Q5K: 13, Q6K: 14 };

function readHeader(bytes) {
  const text = (from, to) => bytes.toString("latin1", from, to).replace(/\0+$/, "");
  const [operation, type, algorithm] = [text(8, 16), text(16, 24), text(24, 36)];
  if (operation !== "encode" || algorithm !== "ggml" || !(type in TYPE_IDS)) {
    throw new Error(`this program encodes ${Object.keys(TYPE_IDS).join(", ")} as ggml does`);
  }
  const [importance, , , columns, inputBytes, answerBytes] = [36, 40, 44, 48, 52, 56].map((at) =>
    bytes.readUInt32LE(at),
  );
  return { type, importance: importance === 1, columns, inputBytes, answerBytes };
}

function encode(header, record) {
  const answer = new Uint8Array(header.answerBytes);
  const importance = header.importance ? record.subarray(4 * header.columns) : null;
  quantizeChunk(TYPE_IDS[header.type], record, answer, 0, 1, header.columns, importance);
  return answer;
}

let header;
let rest = Buffer.alloc(0);
for await (const chunk of process.stdin) {
  rest = Buffer.concat([rest, chunk]);
  const answers = [];
  if (!header && rest.length >= 64) {
    header = readHeader(rest);
    answers.push(rest.subarray(0, 64));
    rest = rest.subarray(64);
  }
  for (; header && rest.length >= header.inputBytes; rest = rest.subarray(header.inputBytes)) {
    answers.push(encode(header, rest.subarray(0, header.inputBytes)));
  }
  if (!process.stdout.write(Buffer.concat(answers))) await once(process.stdout, "drain");
}
