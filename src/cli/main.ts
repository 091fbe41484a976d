#!/usr/bin/env node
/** The `isq` command. */

import { runProgram } from "./program.js";

process.exitCode = await runProgram(process.argv.slice(2));
