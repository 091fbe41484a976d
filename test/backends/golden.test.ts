import { IMPLEMENTATIONS } from "../backends.js";
import { codecSuite } from "../suites/codec.js";

for (const { name, makeCodec } of IMPLEMENTATIONS) codecSuite(name, makeCodec);
