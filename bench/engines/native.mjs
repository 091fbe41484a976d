// llama.cpp as a native library: node-llama-cpp with its prebuilt binary, on processors only.
import { getLlama, LlamaLogLevel } from "node-llama-cpp";
import { processorSeconds } from "../lib/measure.mjs";

export async function openNative(path, { threads, context }) {
  const llama = await getLlama({
    build: "never",
    gpu: false,
    maxThreads: threads,
    logLevel: LlamaLogLevel.error,
  });
  const model = await llama.loadModel({ modelPath: path, gpuLayers: 0 });
  const opened = await model.createContext({ contextSize: context, batchSize: 512, threads });
  const sequence = opened.getSequence();
  const fill = async (tokens) => {
    const { nextTokenIndex } = sequence;
    if (nextTokenIndex > tokens.length)
      await sequence.eraseContextTokenRanges([{ start: tokens.length, end: nextTokenIndex }]);
    else if (nextTokenIndex < tokens.length)
      await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(nextTokenIndex));
    if (sequence.nextTokenIndex !== tokens.length) throw new Error("the context is not as asked for");
  };
  return {
    processorSeconds,
    fill,
    async prefill(before, tokens) {
      await fill(before);
      const start = performance.now();
      await sequence.evaluateWithoutGeneratingNewTokens(tokens);
      return (performance.now() - start) / 1000;
    },
    async generate(before, count) {
      await fill(before);
      let left = count;
      const start = performance.now();
      for await (const _ of sequence.evaluate([1], { temperature: 0, yieldEogToken: true })) {
        if (--left === 0) break;
      }
      const seconds = (performance.now() - start) / 1000;
      if (left > 0) throw new Error("generation ended early");
      return seconds;
    },
    async close() {
      await opened.dispose();
      await model.dispose();
      await llama.dispose();
    },
  };
}
