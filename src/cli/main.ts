#!/usr/bin/env node
/** The `isq` command: finds the sub-command, runs it, and turns errors into one clear sentence and an exit code. */

import { Command, CommanderError } from "commander";
import { isIsqError } from "../errors.js";
import { addAuditCommand } from "./audit.js";
import { addErrorsCommand } from "./errors.js";
import { addImatrixCommand } from "./imatrix.js";
import { addDiffCommand, addInspectCommand } from "./inspect.js";
import { addKldCommand } from "./kld.js";
import { addPerplexityCommand } from "./perplexity.js";
import { addPlanCommand } from "./plan.js";
import { addQuantizeCommand } from "./quantize.js";
import { addRunCommand } from "./run.js";
import { addSensitivityCommand } from "./sensitivity.js";
import { addVectorsCommand } from "./vectors.js";
import { addVerifyCommand } from "./verify.js";

/** Exit codes: 0 done, 1 failed while working, judged wrong or (diff) a difference, 2 bad input, 130 interrupted. */
export async function main(argv: readonly string[]): Promise<number> {
  const program = new Command("isq")
    .description("In-situ quantization of transformer weights: load, quantize, run, measure.")
    .showHelpAfterError("(add --help for the choices)")
    .exitOverride();
  addRunCommand(program);
  addPlanCommand(program);
  addQuantizeCommand(program);
  addInspectCommand(program);
  addDiffCommand(program);
  addImatrixCommand(program);
  addPerplexityCommand(program);
  addKldCommand(program);
  addErrorsCommand(program);
  addSensitivityCommand(program);
  addVectorsCommand(program);
  addAuditCommand(program);
  addVerifyCommand(program);
  try {
    await program.parseAsync(argv, { from: "user" });
    return Number(process.exitCode ?? 0); // a command that found what it looked for may say 1
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2; // commander has said it already
    if (isIsqError(error, "aborted")) return 130;
    if (isIsqError(error)) {
      process.stderr.write(`isq: ${error.message}\n`);
      return 2;
    }
    process.stderr.write(`isq: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return 1;
  }
}

// A reader that ends first (`isq inspect … | head`) has what it wanted.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
});
process.exitCode = await main(process.argv.slice(2));
