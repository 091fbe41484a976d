#!/usr/bin/env node
/** The `isq` command. */

import { runProgram } from "./program.js";

// Who reads the output may stop early, as `head` does: then nothing is left to do.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit();
});

process.exitCode = await runProgram(process.argv.slice(2));
