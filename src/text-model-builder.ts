/** Collects how a model is to be loaded, and loads it. The builder is the front door of the library. */

import type { Backend, Session } from "./backends/backend.js";
import {
  type BackendChoice,
  type OpenBackendOptions,
  openBackend,
  openGpuDevice,
  parseDeviceChoice,
} from "./backends/open.js";
import { splitBackend } from "./backends/split.js";
import {
  type CalibrationText,
  calibrate,
  openLoading,
  placeAsAsked,
  type WorkOptions,
  withSession,
  workOptions,
} from "./calibrated-load.js";
import { type ChunkOptions, chunkTokens } from "./chunks.js";
import { IsqError } from "./errors.js";
import type { Directory } from "./files/directory.js";
import { type Importance, matchImportance } from "./importance.js";
import {
  type InputFile,
  nameOfInput,
  openTokenizerSource,
  readChatTemplate,
  readImatrix,
  readTextInput,
  readTopologyFile,
} from "./inputs.js";
import { LIMITS } from "./limits.js";
import { type OpenedModel, openModel } from "./load.js";
import { countDeviceLayers, type DeviceLayers, parseDeviceLayers } from "./model/device-layers.js";
import { checkCount, checkPaging, type PagedAttentionOptions, type RunningOptions } from "./model/paging.js";
import { ALGORITHM_CHOICES, type AlgorithmChoice, type Plan, type PlanRequest, plan } from "./plan.js";
import { type Organization, parseOrganization } from "./plan-rules.js";
import { type QuantizeReport, quantizeModel } from "./quantize.js";
import { parseType } from "./quants/tensor.js";
import { describeBackend, describePlan, describeReport } from "./report/load-text.js";
import { TextModel } from "./run.js";
import { measureSensitivity, type SensitivityOptions, type SensitivityResult } from "./sensitivity.js";
import { isHere, type TopologyRule } from "./topology.js";
import {
  measureOutput,
  planOutputs,
  readTokenizerKeys,
  saveFormatOf,
  type WriteOptions,
  type WriteReport,
  writeModels,
} from "./write-model.js";

/** What saving would do. */
export interface SavePlan {
  readonly plan: Plan;
  readonly path: string;
  /** Of the files, without what it says about its sources. */
  readonly byteLength: number;
  /** Tensors in memory at the worst moment. */
  readonly peakByteLength: number;
}

/** Options of {@link TextModelBuilder.save}. */
export type SaveModelOptions = Omit<WriteOptions, "importance" | "algorithm"> &
  Pick<WorkOptions, "onCalibration">;

/** Collects how a model is to be loaded; `build` does it. Every `with…` method returns the builder. */
export class TextModelBuilder {
  readonly #model: string | Directory;
  #request: PlanRequest = { type: null };
  #topologyFile: InputFile | undefined;
  #imatrixFile: InputFile | undefined;
  #calibrationFile: InputFile | undefined;
  #architecture: string | undefined;
  #backend: Backend | BackendChoice = "auto";
  #backendOptions: OpenBackendOptions = {};
  #log: ((line: string) => void) | undefined;
  #running: RunningOptions = {};
  #fromUqff: string | undefined;
  #fromGguf: string | undefined;
  #tokenizer: string | Directory | undefined;
  #writeUqff: string | undefined;
  #tokenizerJson: string | undefined;
  #chatTemplateFile: InputFile | undefined;
  #deviceLayers: readonly DeviceLayers[] = [];

  /**
   * @param model Path of a folder, a GGUF or a UQFF file (Node, Deno, Bun), or a {@link Directory} of files (anywhere).
   */
  constructor(model: string | Directory) {
    this.#model = model;
  }

  /** Quantize every tensor ISQ may touch to this type (any case, `q4_k` or `Q4K`). Throws `type/unknown`. */
  withIsq(type: string): this {
    return this.#with({ type: parseType(type) });
  }

  /** `default` (each type's first algorithm) or `mistralrs`. Throws `option/invalid`. */
  withAlgorithm(algorithm: AlgorithmChoice): this {
    if (!ALGORITHM_CHOICES.includes(algorithm)) {
      const message = `algorithm must be ${ALGORITHM_CHOICES.join(" or ")}, not ${JSON.stringify(algorithm)}`;
      throw new IsqError("option/invalid", message, {
        field: "algorithm",
        value: algorithm,
        limit: ALGORITHM_CHOICES,
      });
    }
    return this.#with({ algorithm });
  }

  /** Rules for single tensors and layers; see topology.ts for their precedence. */
  withTopology(topology: readonly TopologyRule[]): this {
    this.#topologyFile = undefined;
    return this.#with({ topology });
  }

  /** Rules from a YAML file, a path or a Blob, instead of those of {@link withTopology}; read when the model is built. */
  withTopologyFile(file: InputFile): this {
    this.#topologyFile = file;
    return this;
  }

  /** Importance by weight name, one value per input column. */
  withImportance(importance: Importance): this {
    this.#imatrixFile = undefined;
    return this.#with({ importance });
  }

  /**
   * Importance from a file, a path or a Blob, instead of that of {@link withImportance}: llama.cpp's `.imatrix` and GGUF
   * form or mistral.rs's `.cimatrix`; read when the model is built.
   */
  withImatrix(file: InputFile): this {
    this.#imatrixFile = file;
    return this;
  }

  /**
   * Importance that the model itself collects from a text file, a path or a Blob, before it is quantized: it is placed as its
   * files have it, runs the text in chunks of 1024 tokens, and gives way to the quantized one tensor by tensor. Excludes
   * {@link withImatrix} and {@link withImportance}: `option/conflict` when the model is built.
   */
  withCalibrationFile(file: InputFile): this {
    this.#calibrationFile = file;
    return this.#with({ calibration: true });
  }

  /**
   * Take the weights from UQFF files of the model's folder: the first shard (`q4k-0.uqff`), several shards separated by
   * semicolons, the name that a set was written under (`q4k.uqff`), or its type (`q4k`, or 4 for the bits).
   */
  fromUqff(files: string): this {
    this.#fromUqff = files;
    return this;
  }

  /** Take config and weights from a GGUF file of the model's folder, or any shard of one. */
  fromGguf(file: string): this {
    this.#fromGguf = file;
    return this;
  }

  /**
   * Take tokenizer.json from another folder, a path or a {@link Directory}. Without it the model's folder has it, or the GGUF
   * file says what it is.
   */
  withTokModelId(folder: string | Directory): this {
    this.#tokenizer = folder;
    return this;
  }

  /** Save the model as UQFF when it is built, before it is loaded; see {@link save}. Throws `option/invalid`. */
  writeUqff(path: string): this {
    if (saveFormatOf(path) !== "uqff") {
      const message = `the name of a UQFF output must end with .uqff, and is ${JSON.stringify(path)}`;
      throw new IsqError("option/invalid", message, { field: "writeUqff", value: path, limit: ".uqff" });
    }
    this.#writeUqff = path;
    return this;
  }

  /**
   * Which tensors are quantized: `default`, or `moqe`, the routed experts of a mixture of experts only. Throws
   * `option/invalid`; the plan throws `option/unsupported` where a model has no experts.
   */
  withOrganization(organization: Organization): this {
    return this.#with({ organization: parseOrganization(organization) });
  }

  /** The organization `moqe`, as mistral.rs calls it. */
  withMixtureQexpertsIsq(): this {
    return this.withOrganization("moqe");
  }

  /** Refuse fallback types, skipped tensors and dropped importance instead of reporting them. */
  withStrict(): this {
    return this.#with({ strict: true });
  }

  /** The architecture's name; without it config.json says. */
  withArchitecture(name: string): this {
    this.#architecture = name;
    return this;
  }

  /**
   * Where the model runs: a backend, which stays the caller's to dispose, or the name of one, which ends with the model.
   * `auto` when absent: the fastest that runs here.
   */
  withBackend(backend: Backend | BackendChoice): this {
    this.#backend = backend;
    return this;
  }

  /** Worker threads of a backend chosen by name; as many as the machine has processors when absent. */
  withThreads(workers: number): this {
    this.#backendOptions = { ...this.#backendOptions, workers };
    return this;
  }

  /**
   * The device that the model runs on: `cpu`, `webgpu`, `webgpu[N]`, or `auto`, a GPU if there is one. A topology may put
   * single layers elsewhere. Throws `topology/device`; `option/conflict` and `backend/unavailable` come when it is built.
   */
  withDevice(device: string): this {
    this.#backendOptions = { ...this.#backendOptions, device: parseDeviceChoice(device) };
    return this;
  }

  /** Report loading, one line per step, to `log` (the console's error stream when absent). */
  withLogging(log: (line: string) => void = (line) => console.error(line)): this {
    this.#log = log;
    return this;
  }

  /** Positions of cache to make room for, over all running texts; the model's context when absent. */
  withContextLength(positions: number): this {
    return this.#run({ contextLength: checkCount("contextLength", positions) });
  }

  /**
   * A cache for many texts: they share blocks of equal beginnings, and what finished texts leave is kept for the next as
   * long as there is room. Without sizes it holds as many contexts as texts may run, up to 1 GiB and at least one.
   * Throws `option/invalid`, `option/conflict`, `option/unsupported`.
   */
  withPagedAttention(options: PagedAttentionOptions = {}): this {
    return this.#run({ paging: checkPaging(options) });
  }

  /** Most texts that run at the same time, one row of each in every step; more wait. 16 when absent. */
  withMaxSequences(count: number): this {
    return this.#run({ maxSequences: checkCount("maxSequences", count, LIMITS.sequences) });
  }

  /** Most tokens of prompts in one step, a quarter of them while texts are continued; 256 when absent. */
  withPromptBatchSize(rows: number): this {
    return this.#run({ promptRows: checkCount("promptBatchSize", rows) });
  }

  /** A tokenizer.json instead of the folder's, by path. Read when the model is built. */
  withTokenizerJson(path: string): this {
    this.#tokenizerJson = path;
    return this;
  }

  /**
   * Chat template instead of the model's own, from a path or a Blob: Jinja, or JSON with the field `chat_template`. Read
   * when the model is built.
   */
  withChatTemplate(file: InputFile): this {
    this.#chatTemplateFile = file;
    return this;
  }

  /**
   * How many layers, from the first, are on the device that {@link withDevice} names: `16`, or `0:16`, or a list. The rest is on
   * the CPU, unless a topology says otherwise. Throws `option/invalid`; what the model has not comes when it is opened.
   */
  withDeviceLayers(layers: string | readonly DeviceLayers[]): this {
    this.#deviceLayers = typeof layers === "string" ? parseDeviceLayers(layers) : layers;
    return this;
  }

  /** Keeps nothing between steps: every token runs the whole text again, with the same result. */
  withoutCache(): this {
    return this.#run({ keepCache: false });
  }

  /** The plan alone: reads the config and the headers, no weight. Throws as {@link build} does up to there. */
  async plan(): Promise<Plan> {
    const opened = await this.#open();
    try {
      const request = await this.#readRequest(opened);
      await this.#readRunning();
      return plan(opened.program, opened.sourceOf, request);
    } finally {
      await opened.checkpoint.close();
    }
  }

  /** The plan of {@link save}, and what the files and the work in memory would take. Reads no weight. */
  async planSave(path: string): Promise<SavePlan> {
    const [planned] = await this.planSaveTypes(path, [this.#request.type]);
    return planned;
  }

  /** {@link planSave} for {@link saveTypes}. */
  async planSaveTypes(path: string, types: readonly (string | null)[]): Promise<SavePlan[]> {
    const opened = await this.#open();
    try {
      const jobs = planOutputs(opened, await this.#readRequest(opened), path, types);
      const tokenizer = saveFormatOf(path) === "gguf" ? await readTokenizerKeys(opened) : undefined;
      return jobs.map((job) => ({ ...job, ...measureOutput(opened, job, tokenizer) }));
    } finally {
      await opened.checkpoint.close();
    }
  }

  /**
   * Quantizes the model into a file, `.gguf` or `.safetensors`, or a set of files, `.uqff`, without loading it. They appear
   * when they are complete; interrupted, the same call goes on where it was. Throws `output/*`, and as {@link build} does
   * while it plans.
   */
  async save(path: string, options: SaveModelOptions = {}): Promise<WriteReport> {
    const [report] = await this.saveTypes(path, [this.#request.type], options);
    return report;
  }

  /**
   * {@link save} for several types instead of that of {@link withIsq}. With more than one, each type's name is put before
   * the ending of the path: `out-q4k.gguf`. UQFF sets share all that is not quantized, and one report.
   */
  async saveTypes(
    path: string,
    types: readonly (string | null)[],
    options: SaveModelOptions = {},
  ): Promise<WriteReport[]> {
    const outputs = (opened: OpenedModel, request: PlanRequest) => planOutputs(opened, request, path, types);
    return this.#withFiles(outputs, options, ({ opened, backend, request }) => {
      const { algorithm } = request;
      const work = { ...workOptions(request, options), ...options, ...(algorithm && { algorithm }) };
      return writeModels(opened, outputs(opened, request), backend, work);
    });
  }

  /**
   * Quantizes every tensor that is to be and reports how far it is from its source, without running the model. Throws as
   * {@link build}.
   */
  measureErrors(options: WorkOptions = {}): Promise<QuantizeReport> {
    return this.#withFiles(planOf, options, async ({ opened, backend, request }) => {
      const decided = planOf(opened, request);
      const rows = decided.rows.filter(({ algorithm }) => algorithm !== null);
      const work = { ...workOptions(request, options), measureError: true };
      const report = await quantizeModel({ ...decided, rows }, opened.checkpoint, backend, () => {}, work);
      return { ...report, plan: decided };
    });
  }

  /**
   * Measures on a text which tensor hurts most when it alone is quantized, and proposes types for a size; see sensitivity.ts.
   * The type and the topology of this builder do not matter. Throws as {@link build}, and `prompt/*`.
   */
  measureSensitivity(text: string, options: SensitivityOptions & ChunkOptions): Promise<SensitivityResult> {
    return this.#withFiles(planOf, options, async ({ opened, backend, request }) =>
      withSession(opened, backend, await this.#readRunning(), (loading) => {
        const ids = loading.tokenizer.encode(text, { addSpecialTokens: false });
        const chunks = chunkTokens(ids, loading.tokenizer.beginToken, options);
        return measureSensitivity(loading, request, chunks, options);
      }),
    );
  }

  /**
   * What is done with files alone: opens them, lets `check` refuse the request, calibrates in a session that is gone
   * afterwards, and closes everything.
   */
  async #withFiles<Result>(
    check: (opened: OpenedModel, request: PlanRequest) => unknown,
    options: Pick<WorkOptions, "signal" | "onCalibration">,
    work: (files: {
      readonly opened: OpenedModel;
      readonly backend: Backend;
      readonly request: PlanRequest;
    }) => Promise<Result>,
  ): Promise<Result> {
    const opened = await this.#open();
    let backend: Backend | undefined;
    try {
      const asked = await this.#readRequest(opened);
      check(opened, asked);
      const text = await this.#readCalibration();
      backend = await this.#openBackend();
      const calibrated =
        text &&
        (await withSession(opened, backend, await this.#readRunning(), (loading) =>
          calibrate(loading, asked, text, options),
        ));
      return await work({ opened, backend, request: calibrated?.request ?? asked });
    } finally {
      if (typeof this.#backend === "string") await backend?.dispose();
      await opened.checkpoint.close();
    }
  }

  /**
   * Opens, quantizes and places the model. Throws the tagged error of whatever is wrong with files or options, before
   * any weight is read where that can be known.
   */
  async build(options: WorkOptions = {}): Promise<TextModel> {
    if (this.#writeUqff !== undefined) {
      const { signal } = options;
      const { path, byteLength } = await this.save(this.#writeUqff, signal ? { signal } : {});
      this.#log?.(`wrote ${path} with ${byteLength} bytes`);
    }
    const opened = await this.#open();
    let session: Session | undefined;
    let backend: Backend | undefined;
    let ownsBackend = typeof this.#backend === "string";
    try {
      const asked = await this.#readRequest(opened);
      const decided = plan(opened.program, opened.sourceOf, asked);
      const text = await this.#readCalibration();
      const running = await this.#readRunning();
      backend = await this.#openBackend();
      const spread = await spreadOverDevices(decided, backend, ownsBackend, this.#backendOptions.device);
      if (spread) [backend, ownsBackend] = [spread, true];
      const loading = await openLoading(opened, backend, running);
      session = loading.session;
      this.#log?.(describePlan(decided, describeBackend(backend)));
      const { request, report } = await placeAsAsked(loading, asked, text, options);
      this.#log?.(describeReport(report));
      return new TextModel({ ...loading, ownsBackend, report, request });
    } catch (error) {
      await session?.dispose();
      if (ownsBackend) await backend?.dispose();
      await opened.checkpoint.close();
      throw error;
    }
  }

  async #open(): Promise<OpenedModel> {
    const opened = await this.#openModel();
    try {
      countDeviceLayers(this.#deviceLayers, opened.program);
      return opened;
    } catch (error) {
      await opened.checkpoint.close();
      throw error;
    }
  }

  async #openModel(): Promise<OpenedModel> {
    const tokenizer =
      typeof this.#tokenizer === "string" ? await openFolder(this.#tokenizer) : this.#tokenizer;
    const options = {
      ...(tokenizer && { tokenizer }),
      ...(this.#architecture !== undefined && { architecture: this.#architecture }),
      ...(this.#fromUqff !== undefined && { uqff: this.#fromUqff }),
      ...(this.#fromGguf !== undefined && { gguf: this.#fromGguf }),
    };
    if (typeof this.#model !== "string") return openModel(this.#model, options);
    const [, folder = ".", file, ending] = /^(.*[/\\])?([^/\\]+\.(gguf|uqff))$/i.exec(this.#model) ?? [];
    if (file === undefined || this.#fromGguf !== undefined)
      return openModel(await openFolder(this.#model), options);
    if (this.#fromUqff !== undefined) {
      const message = `the model is ${this.#model}, and weights from ${this.#fromUqff} need a folder`;
      throw new IsqError("option/conflict", message, { field: "fromUqff", value: this.#fromUqff });
    }
    return openModel(await openFolder(folder), { ...options, [ending.toLowerCase()]: file });
  }

  /** How texts run, with what its files say. */
  async #readRunning(): Promise<RunningOptions> {
    const [path, file] = [this.#tokenizerJson, this.#chatTemplateFile];
    const tokenizer = {
      ...(path !== undefined && (await openTokenizerSource(path))),
      ...(file !== undefined && { chatTemplate: await readChatTemplate(file) }),
    };
    return { ...this.#running, tokenizer };
  }

  #openBackend(): Promise<Backend> {
    if (typeof this.#backend !== "string") return Promise.resolve(this.#backend);
    return openBackend(this.#backend, this.#backendOptions);
  }

  async #readCalibration(): Promise<CalibrationText | null> {
    const file = this.#calibrationFile;
    return file === undefined ? null : { text: await readTextInput(file), name: nameOfInput(file) };
  }

  /** The request with what its files say. */
  async #readRequest({ program }: OpenedModel): Promise<PlanRequest> {
    const [topology, imatrix] = [this.#topologyFile, this.#imatrixFile];
    if (this.#calibrationFile !== undefined && (imatrix !== undefined || this.#request.importance)) {
      const message = "importance is either given or collected from a calibration file, not both";
      throw new IsqError("option/conflict", message, { field: "calibrationFile" });
    }
    const deviceLayers = countDeviceLayers(this.#deviceLayers, program);
    return {
      ...this.#request,
      ...(deviceLayers !== null && { deviceLayers }),
      ...(topology !== undefined && { topology: await readTopologyFile(topology) }),
      ...(imatrix !== undefined && { importance: matchImportance(await readImatrix(imatrix), program) }),
    };
  }

  #run(part: RunningOptions): this {
    this.#running = { ...this.#running, ...part };
    const { paging, contextLength } = this.#running;
    if (!paging || contextLength === undefined) return this;
    const message =
      "withContextLength sizes the cache without paged attention; give withPagedAttention the size";
    throw new IsqError("option/conflict", message, { field: "contextLength", value: contextLength });
  }

  #with(part: Partial<PlanRequest>): this {
    this.#request = { ...this.#request, ...part };
    return this;
  }
}

const planOf = ({ program, sourceOf }: OpenedModel, request: PlanRequest) => plan(program, sourceOf, request);

/**
 * The backend and a second one for the tensors that the topology puts elsewhere, or null when there are none. Throws
 * `topology/device` for a third device, `backend/unavailable`.
 */
async function spreadOverDevices(
  { rows }: Plan,
  backend: Backend,
  owned: boolean,
  chosen?: string,
): Promise<Backend | null> {
  const elsewhere = rows.filter(({ device }) => device !== null && !isHere(device, backend.name, chosen));
  if (elsewhere.length === 0) return null;
  const device = elsewhere[0].device!;
  for (const row of elsewhere) {
    if (row.device === device) continue;
    const message = `the topology puts ${row.tensor} on ${row.device}, a third device beside ${backend.name} and ${device}`;
    throw new IsqError("topology/device", message, {
      tensor: row.tensor,
      field: "device",
      value: row.device,
      limit: [device],
    });
  }
  const second = device === "cpu" ? await openBackend() : await openGpuDevice(device);
  const weights = new Set(elsewhere.map(({ weight }) => weight));
  return {
    ...splitBackend(backend, second, (weight) => weights.has(weight)),
    async dispose() {
      await second.dispose();
      if (owned) await backend.dispose();
    },
  };
}

/** A folder by path, where the runtime has files. */
async function openFolder(path: string): Promise<Directory> {
  const { openDirectory } = await import("#platform");
  return openDirectory(path);
}
