/** The commands, with all their flags: what main.ts runs and docs/commands.md is made of. */

import { Command, CommanderError } from "commander";
import { isIsqError } from "../errors.js";
import { VERSION } from "../version.js";
import { addAuditCommand } from "./audit.js";
import { addBenchCommand } from "./bench.js";
import { addErrorsCommand } from "./errors.js";
import { addImatrixCommand } from "./imatrix.js";
import { addDiffCommand, addInspectCommand } from "./inspect.js";
import { addKldCommand } from "./kld.js";
import { addPerplexityCommand } from "./perplexity.js";
import { addPlanCommand } from "./plan.js";
import { addQuantizeCommand } from "./quantize.js";
import { addReIsqCommand } from "./re-isq.js";
import { addRunCommand } from "./run.js";
import { addSensitivityCommand } from "./sensitivity.js";
import { addServeCommand } from "./serve.js";
import { addVectorsCommand } from "./vectors.js";
import { addVerifyCommand } from "./verify.js";

const COMMANDS: readonly ((program: Command) => void)[] = [
  addServeCommand,
  addRunCommand,
  addReIsqCommand,
  addBenchCommand,
  addPlanCommand,
  addQuantizeCommand,
  addInspectCommand,
  addDiffCommand,
  addVerifyCommand,
  addImatrixCommand,
  addPerplexityCommand,
  addKldCommand,
  addErrorsCommand,
  addSensitivityCommand,
  addVectorsCommand,
  addAuditCommand,
];

export function createProgram(): Command {
  const program = new Command("isq")
    .description("In-situ quantization of transformer weights: load, quantize, run, measure.")
    .version(VERSION, "-V, --version", "print the version")
    .showHelpAfterError("(add --help for the choices)")
    .enablePositionalOptions()
    .exitOverride();
  for (const add of COMMANDS) add(program);
  return program;
}

/**
 * Finds the sub-command, runs it, and turns errors into one clear sentence and an exit code: 0 done, 1 failed while working,
 * judged wrong or (diff) a difference, 2 bad input, 130 interrupted.
 */
export async function runProgram(argv: readonly string[]): Promise<number> {
  try {
    await createProgram().parseAsync(argv, { from: "user" });
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
