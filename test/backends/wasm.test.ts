import { wasm } from "../../src/backends/wasm.js";
import { backendSuite } from "../suites/backend.js";
import { sessionSuite } from "../suites/session.js";

backendSuite("wasm", () => wasm(), { runs: 60 });
sessionSuite("wasm", () => wasm());
