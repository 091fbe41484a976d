/** Tokenizes long prompts in a thread of its own. */

import { workerData } from "piscina";
import { createTokenizer, type TokenizerDefinition } from "../model/tokenizer.js";
import type { EncodeTask } from "./encoder.js";

const { tokenizerJson, settingsJson, defaults } = workerData as TokenizerDefinition;
const tokenizer = createTokenizer(tokenizerJson, settingsJson, defaults);

export default function encode({ text, addSpecialTokens }: EncodeTask): number[] {
  return tokenizer.encode(text, { addSpecialTokens });
}
