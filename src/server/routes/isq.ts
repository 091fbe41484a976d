/** Quantization while the server runs: plans, re-ISQ, calibration from live texts, perplexity. */

import { Hono } from "hono";
import type { CalibrationStatus } from "../../weights.js";
import { ApiError } from "../errors.js";
import { perplexityOf } from "../perplexity.js";
import type { Job } from "../re-isq-jobs.js";
import { openRequest } from "../request.js";
import { calibrationApplySchema, perplexitySchema, planSchema, reIsqSchema } from "../schema.js";
import { type AppEnv, type ServerState, servedModel } from "../state.js";

/** Answers when the job is over, or at once with 202. */
async function answerJob(
  { job, ended }: { job: Job; ended: Promise<Job> },
  wait: boolean,
): Promise<Response> {
  if (!wait) {
    void ended; // it never rejects: the job says what became of it
    return Response.json(job, { status: 202, headers: { location: "/re_isq" } });
  }
  const done = await ended;
  return Response.json(done, { status: done.error ? 500 : 200 });
}

/** Throws 409 where there is nothing to apply, before a job begins. */
function checkCollected({ collecting, totalRows }: CalibrationStatus): void {
  if (totalRows > 0) return;
  const message = collecting
    ? "no text has run through the model since the calibration was begun"
    : "no calibration was begun; POST /calibration/start begins it";
  throw new ApiError(409, "calibration/none", message);
}

export function isqRoutes(state: ServerState): Hono<AppEnv> {
  const [planBody, reIsqBody] = [planSchema(), reIsqSchema()];
  const [perplexityBody, applyBody] = [perplexitySchema(), calibrationApplySchema()];
  return new Hono<AppEnv>()
    .get("/v1/isq/plan", (context) => context.json(servedModel(state).model.plan))
    .post("/v1/isq/plan", async (context) => {
      const { body } = await openRequest(context, state, planBody);
      return context.json(servedModel(state).model.planReIsq(body.isq));
    })
    .get("/re_isq", (context) => {
      const { current } = servedModel(state).jobs;
      if (current) return context.json(current);
      throw new ApiError(404, "no_job", "no job has changed the weights since the server was started");
    })
    .post("/re_isq", async (context) => {
      const { body } = await openRequest(context, state, reIsqBody);
      const { model, jobs } = servedModel(state);
      const { requested } = model.planReIsq(body.ggml_type); // refuses what cannot be done before a job begins
      const from = body.from ? { from: body.from } : {};
      const begun = jobs.begin("re_isq", requested, (options) =>
        model.reIsq(body.ggml_type, { ...options, ...from }),
      );
      return answerJob(begun, body.wait !== false);
    })
    .post("/v1/isq/perplexity", async (context) => {
      const { body, signal } = await openRequest(context, state, perplexityBody);
      const { model, encoder } = servedModel(state);
      const tokens = await encoder.encode(body.text, false, signal);
      const used = tokens.slice(0, state.limits.perplexityTokens);
      const result = await perplexityOf(model, used, {
        chunkTokens: body.chunk_tokens ?? Math.min(1024, model.contextLength - 1),
        signal,
      });
      return context.json({ isq: model.plan.requested, tokens: used.length, ...result });
    })
    .post("/calibration/start", async (context) => {
      const { model } = servedModel(state);
      await model.beginCalibration();
      return context.json(model.calibrationStatus);
    })
    .get("/calibration/status", (context) => context.json(servedModel(state).model.calibrationStatus))
    .post("/calibration/apply", async (context) => {
      const { body } = await openRequest(context, state, applyBody);
      const { model, jobs } = servedModel(state);
      checkCollected(model.calibrationStatus);
      const begun = jobs.begin("calibration", null, (options) => model.applyCalibration(options));
      return answerJob(begun, body.wait !== false);
    });
}
