/** Errors as the OpenAI interface has them: `{ error: { message, type, param, code } }` with the right status. */

import { type ErrorTag, isIsqError } from "../errors.js";

export type ErrorType =
  | "invalid_request_error"
  | "authentication_error"
  | "permission_error"
  | "not_found_error"
  | "conflict_error"
  | "rate_limit_error"
  | "server_error";

/** The body of every answer that refuses something. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: ErrorType;
    readonly param: string | null;
    readonly code: string;
  };
}

export interface ApiErrorOptions {
  readonly param?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

const TYPE_OF_STATUS: Readonly<Record<number, ErrorType>> = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  405: "invalid_request_error",
  409: "conflict_error",
  429: "rate_limit_error",
};

/** A refusal that knows its status. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly param: string | null;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: string, message: string, options: ApiErrorOptions = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = options.param ?? null;
    this.headers = options.headers ?? {};
  }
}

/** Tags whose status is not 400 (the request) or 500 (the server). */
const STATUS_OF_TAG: Partial<Record<ErrorTag, number>> = {
  "backend/disposed": 503,
  aborted: 499,
};

/** Families of tags that the request is to blame for. */
const OF_REQUEST =
  /^(prompt|option|type|algorithm|importance|topology|tokenizer|plan|cache|shape|imatrix|output)\//;

/** Any error as one with a status. What the server is to blame for is not told in detail. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (!isIsqError(error)) return new ApiError(500, "internal_error", "the server failed; its log says more");
  const { tag, message, details } = error;
  const status = STATUS_OF_TAG[tag] ?? (OF_REQUEST.test(tag) ? 400 : 500);
  const code = tag === "prompt/length" ? "context_length_exceeded" : tag;
  return new ApiError(
    status,
    code,
    message,
    details.field === undefined ? {} : { param: snakeCase(details.field) },
  );
}

/** Fields of requests are those of the library, spelled as the interface does. */
function snakeCase(field: string): string {
  return field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

export function errorBody({ status, message, param, code }: ApiError): ErrorBody {
  const type = TYPE_OF_STATUS[status] ?? (status >= 500 ? "server_error" : "invalid_request_error");
  return { error: { message, type, param, code } };
}

/** The answer that tells an error. */
export function errorResponse(error: ApiError): Response {
  return Response.json(errorBody(error), { status: error.status, headers: error.headers });
}
