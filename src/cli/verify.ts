/** `isq verify`: whether a file is whole; or, of a receipt, whether the ranges that it names are what it says. */

import { join } from "node:path";
import type { Command } from "commander";
import { openBackend } from "../backends/open.js";
import { IsqError } from "../errors.js";
import { fromUrl } from "../files/http-source.js";
import type { ByteSource } from "../files/source.js";
import { openFile } from "../node/file-source.js";
import type { Plan } from "../plan.js";
import { parseReceipt } from "../receipt.js";
import { type TensorCheck, verifyReceipt } from "../receipt-verify.js";
import { formatTable } from "../report/text.js";
import { readImportanceOf } from "./importance.js";
import { verifyStructure } from "./inspect.js";
import { readTextFile } from "./options.js";

interface VerifyFlags {
  readonly source?: string;
  readonly output?: string;
  readonly tensor?: string[];
  readonly imatrix?: string;
  readonly plan?: string;
  readonly json?: boolean;
}

export function addVerifyCommand(program: Command): void {
  program
    .command("verify")
    .description(
      "check the structure of a file or a model's folder (exit code 2 when it is damaged), or a receipt (1 when it does not hold)",
    )
    .argument("<path>", "a file, a folder, or the JSON receipt that was written with a quantized file")
    .option(
      "--source <place>",
      "receipt: folder or URL of the original files; their tensors are encoded again",
    )
    .option("--output <place>", "receipt: path or URL of the quantized file; of UQFF, of the set's folder")
    .option("--tensor <names...>", "receipt: only these tensors")
    .option("--imatrix <file>", "receipt: the importance that was used")
    .option("--plan <file>", "receipt: the plan that was followed, as isq plan --json prints it")
    .option("--json", "print what was checked as JSON")
    .action(async (path: string, flags: VerifyFlags) => {
      const { json = false, ...ofReceipt } = flags;
      const isReceipt = Object.keys(ofReceipt).length > 0 || path.endsWith(".receipt.json");
      if (!isReceipt) return verifyStructure(path, json);
      const checks = await verifyFiles(path, flags);
      process.stdout.write(json ? `${JSON.stringify(checks, null, 2)}\n` : formatChecks(checks));
      if (!checks.every(isFine)) process.exitCode = 1;
    });
}

async function verifyFiles(path: string, flags: VerifyFlags): Promise<TensorCheck[]> {
  const { source, output: place, tensor } = flags;
  if (source === undefined && place === undefined && flags.plan === undefined) {
    const message = "there is nothing to check: give --source, --output or --plan";
    throw new IsqError("option/invalid", message, { field: "source" });
  }
  const receipt = parseReceipt(await readTextFile(path), path);
  const weights = receipt.tensors.map(({ tensor: name, shape }) => ({ name, shape }));
  const importance = flags.imatrix === undefined ? undefined : await readImportanceOf(flags.imatrix, weights);
  const plan = flags.plan === undefined ? undefined : await readPlan(flags.plan);
  const isSet = receipt.output.others !== undefined;
  const one = place === undefined || isSet ? undefined : await openPlace(place);
  const folder = place?.replace(/[^/\\]+\.uqff$/i, "") || ".";
  const output = place !== undefined && isSet ? (file: string) => openPlace(within(folder, file)) : one;
  const backend = await openBackend();
  try {
    return await verifyReceipt(receipt, {
      backend,
      ...(output && { output }),
      ...(importance && { importance }),
      ...(plan && { plan }),
      ...(tensor && { tensors: tensor }),
      ...(source !== undefined && { source: (file: string) => openPlace(within(source, file)) }),
    });
  } finally {
    await backend.dispose();
    await one?.close?.();
  }
}

async function readPlan(file: string): Promise<Pick<Plan, "rows">> {
  const text = await readTextFile(file);
  try {
    const value = JSON.parse(text);
    const { rows } = value.plan ?? value; // a dry run has the plan and more
    if (Array.isArray(rows)) return { rows };
  } catch {} // the sentence below is enough
  throw new IsqError("option/invalid", `${file} is no plan as isq plan --json prints it`, {
    file,
    field: "plan",
  });
}

const isUrl = (place: string): boolean => /^https?:\/\//.test(place);

const within = (place: string, file: string): string =>
  isUrl(place) ? `${place.replace(/\/$/, "")}/${file}` : join(place, file);

const openPlace = (place: string): Promise<ByteSource> => (isUrl(place) ? fromUrl(place) : openFile(place));

const isFine = ({ plan, source, output, again }: TensorCheck): boolean =>
  [plan, source, output, again].every((check) => check === "same" || check === "not given");

function formatChecks(checks: readonly TensorCheck[]): string {
  const rows = checks.map(({ tensor, plan, source, output, again }) => [tensor, plan, source, output, again]);
  const wrong = checks.filter((check) => !isFine(check)).length;
  const verdict = wrong === 0 ? `OK ${checks.length} tensors` : `NOT OK ${wrong} of ${checks.length} tensors`;
  return `${formatTable(["tensor", "plan", "source", "output", "encoded again"], rows)}\n\n${verdict}\n`;
}
