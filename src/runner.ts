/** The front door as mistral.rs's Python package has it: `Runner` and `Which`, over {@link TextModelBuilder}. */

import type { Backend } from "./backends/backend.js";
import type { BackendChoice } from "./backends/open.js";
import { IsqError } from "./errors.js";
import type { Directory } from "./files/directory.js";
import type { InputFile } from "./inputs.js";
import type { ChatMessage } from "./model/chat.js";
import type { FinishReason } from "./model/jobs.js";
import type { SamplerOptions } from "./model/sampler.js";
import type { Organization } from "./plan-rules.js";
import type { ReIsqReport } from "./re-isq.js";
import type { GenerateRequest, TextModel } from "./run.js";
import { TextModelBuilder } from "./text-model-builder.js";
import type { TopologyRule } from "./topology.js";

/** A folder by path or as {@link Directory}. */
type Folder = string | Directory;

interface QuantizationSource {
  /** A YAML file, or rules. */
  readonly topology?: InputFile | readonly TopologyRule[];
  readonly organization?: Organization;
  readonly imatrix?: InputFile;
  readonly calibrationFile?: InputFile;
  readonly writeUqff?: string;
}

/** A model of safetensors or UQFF files in a folder. */
export interface PlainModel extends QuantizationSource {
  /** A folder with config.json, tokenizer.json and safetensors files. */
  readonly modelId: Folder;
  readonly arch?: string;
  readonly fromUqff?: string;
}

/** A model in a GGUF file. */
export interface GgufModel extends QuantizationSource {
  /** The folder with the GGUF file. */
  readonly quantizedModelId: Folder;
  /** The file, or the shards of one. */
  readonly quantizedFilename: string | readonly string[];
  /** A folder with tokenizer.json; without it the folder of the file has one, or the file says it. */
  readonly tokModelId?: Folder;
}

/** Which model a {@link Runner} runs. */
export type WhichModel = ({ readonly kind: "plain" } & PlainModel) | ({ readonly kind: "gguf" } & GgufModel);

/** Names the model that a {@link Runner} is to run, as mistral.rs does. */
export const Which = {
  /** Safetensors files, or with `fromUqff` UQFF files. */
  Plain: (model: PlainModel): WhichModel => ({ kind: "plain", ...model }),
  /** A GGUF file. */
  Gguf: (model: GgufModel): WhichModel => ({ kind: "gguf", ...model }),
} as const;

/** What {@link Runner.create} is told. */
export interface RunnerOptions {
  readonly which: WhichModel;
  /** The type that the model is quantized to while it is loaded, also from another one; a copy where it is the same. */
  readonly inSituQuant?: string;
  readonly backend?: Backend | BackendChoice;
  /** Most texts that run at the same time. */
  readonly maxSeqs?: number;
  readonly signal?: AbortSignal;
}

/** A conversation to continue, and how. */
export interface ChatCompletionRequest extends SamplerOptions {
  readonly messages: readonly ChatMessage[];
  readonly maxTokens?: number;
  readonly stop?: string | readonly string[];
  readonly signal?: AbortSignal;
}

/** The answer, in the form of the OpenAI interface. */
export interface ChatCompletion {
  readonly choices: readonly [
    {
      readonly index: 0;
      readonly message: { readonly role: "assistant"; readonly content: string };
      readonly finishReason: FinishReason;
    },
  ];
}

/** A builder for what {@link Which} names. Throws `option/invalid`. */
export function builderOf(which: WhichModel): TextModelBuilder {
  const builder =
    which.kind === "plain"
      ? new TextModelBuilder(which.modelId)
      : new TextModelBuilder(which.quantizedModelId);
  if (which.kind === "gguf") {
    builder.fromGguf(firstFile(which.quantizedFilename));
    if (which.tokModelId !== undefined) builder.withTokModelId(which.tokModelId);
  } else {
    if (which.arch !== undefined) builder.withArchitecture(which.arch);
    if (which.fromUqff !== undefined) builder.fromUqff(which.fromUqff);
  }
  const { topology, organization, imatrix, calibrationFile, writeUqff } = which;
  if (Array.isArray(topology)) builder.withTopology(topology);
  else if (topology !== undefined) builder.withTopologyFile(topology as InputFile);
  if (organization !== undefined) builder.withOrganization(organization);
  if (imatrix !== undefined) builder.withImatrix(imatrix);
  if (calibrationFile !== undefined) builder.withCalibrationFile(calibrationFile);
  if (writeUqff !== undefined) builder.writeUqff(writeUqff);
  return builder;
}

/** Shards are found by their names: any of them will do. */
function firstFile(files: string | readonly string[]): string {
  const [first] = typeof files === "string" ? [files] : files;
  if (first !== undefined) return first;
  throw new IsqError("option/invalid", "quantizedFilename names no file", { field: "quantizedFilename" });
}

/** A loaded model. */
export class Runner {
  /** What it runs, with everything else that a model can do. */
  readonly model: TextModel;

  private constructor(model: TextModel) {
    this.model = model;
  }

  /** Loads the model. Throws as {@link TextModelBuilder.build}. */
  static async create({ which, inSituQuant, backend, maxSeqs, signal }: RunnerOptions): Promise<Runner> {
    const builder = builderOf(which);
    if (inSituQuant !== undefined) builder.withIsq(inSituQuant);
    if (backend !== undefined) builder.withBackend(backend);
    if (maxSeqs !== undefined) builder.withMaxSequences(maxSeqs);
    return new Runner(await builder.build(signal ? { signal } : {}));
  }

  /** Answers a conversation. */
  async sendChatCompletionRequest(request: ChatCompletionRequest): Promise<ChatCompletion> {
    const { text, finish } = await this.model.generate(request as GenerateRequest);
    const message = { role: "assistant", content: text } as const;
    return { choices: [{ index: 0, message, finishReason: finish }] };
  }

  /** Changes the type of the running model; resolves when it is done. */
  sendReIsq(type: string): Promise<ReIsqReport> {
    return this.model.reIsq(type);
  }

  /** Frees the model; a backend of the caller's stays. */
  async dispose(): Promise<void> {
    await this.model.dispose();
  }
}
