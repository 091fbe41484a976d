import type { Program } from "../../backends/program.js";
import type { Fields } from "../fields.js";

/** One supported architecture. A new one is one file with such a row, listed in index.ts. */
export interface Architecture {
  /** The name of the `-a` option. */
  readonly name: string;
  /** `architectures[0]` values of config.json. */
  readonly classNames: readonly string[];
  /** `model_type` values of config.json. */
  readonly modelTypes: readonly string[];
  /** Compiles the fields of config.json. Throws `config/missing` and `config/invalid`. */
  compile(fields: Fields): Program;
}
