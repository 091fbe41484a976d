/** The commands, with all their flags: what main.ts runs and docs/commands.md is made of. */

import { Command, CommanderError } from "commander";
import { isIsqError } from "../errors.js";
import { VERSION } from "../version.js";

type Add = (program: Command) => void;

/** By name, in the order of the help. Each brings its own modules: one command starts without those of the others. */
const COMMANDS: Readonly<Record<string, () => Promise<Add>>> = {
  serve: async () => (await import("./serve.js")).addServeCommand,
  run: async () => (await import("./run.js")).addRunCommand,
  "re-isq": async () => (await import("./re-isq.js")).addReIsqCommand,
  bench: async () => (await import("./bench.js")).addBenchCommand,
  plan: async () => (await import("./plan.js")).addPlanCommand,
  quantize: async () => (await import("./quantize.js")).addQuantizeCommand,
  inspect: async () => (await import("./inspect.js")).addInspectCommand,
  diff: async () => (await import("./inspect.js")).addDiffCommand,
  verify: async () => (await import("./verify.js")).addVerifyCommand,
  imatrix: async () => (await import("./imatrix.js")).addImatrixCommand,
  perplexity: async () => (await import("./perplexity.js")).addPerplexityCommand,
  kld: async () => (await import("./kld.js")).addKldCommand,
  errors: async () => (await import("./errors.js")).addErrorsCommand,
  sensitivity: async () => (await import("./sensitivity.js")).addSensitivityCommand,
  vectors: async () => (await import("./vectors.js")).addVectorsCommand,
  audit: async () => (await import("./audit.js")).addAuditCommand,
};

/** With all commands, or only the one of this name when there is one. */
export async function createProgram(name = ""): Promise<Command> {
  const program = new Command("isq")
    .description("In-situ quantization of transformer weights: load, quantize, run, measure.")
    .version(VERSION, "-V, --version", "print the version")
    .showHelpAfterError("(add --help for the choices)")
    .enablePositionalOptions()
    .exitOverride();
  const loaders = Object.hasOwn(COMMANDS, name) ? [COMMANDS[name]] : Object.values(COMMANDS);
  for (const add of await Promise.all(loaders.map((load) => load()))) add(program);
  return program;
}

/**
 * Finds the sub-command, runs it, and turns errors into one clear sentence and an exit code: 0 done, 1 failed while working,
 * judged wrong or (diff) a difference, 2 bad input, 130 interrupted.
 */
export async function runProgram(argv: readonly string[]): Promise<number> {
  try {
    await (await createProgram(argv[0])).parseAsync(argv, { from: "user" });
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
