/** The model form `toml`: a file that says which model, with the names of the other forms' flags. */

import { parse } from "smol-toml";
import { z } from "zod";
import { IsqError } from "../errors.js";
import { parseOrganization } from "../plan-rules.js";
import { ggufModel } from "./forms.js";
import { type PlainOptions, type QuantizationOptions, readTextFile } from "./options.js";

const shared = {
  topology: z.string().optional(),
  organization: z.string().optional(),
  write_uqff: z.string().optional(),
  imatrix: z.string().optional(),
  calibration_file: z.string().optional(),
};
const plain = z.strictObject({
  model_id: z.string(),
  arch: z.string().optional(),
  from_uqff: z.string().optional(),
  ...shared,
});
const gguf = z.strictObject({
  quantized_model_id: z.string(),
  quantized_filename: z.string(),
  tok_model_id: z.string().optional(),
  ...shared,
});

type TomlModel = PlainOptions & Partial<QuantizationOptions>;

/** Reads a file. Throws `source/open`, and `option/invalid` naming the key. */
export async function readTomlModel(file: string): Promise<TomlModel> {
  const text = await readTextFile(file);
  const whole = check(
    file,
    z.strictObject({ model: z.unknown(), tokenizer_json: z.string().optional() }),
    () => parse(text),
  );
  const table = whole.model as object | undefined;
  const isGguf = typeof table === "object" && table !== null && "quantized_model_id" in table;
  const own = isGguf ? ggufOf(check(file, gguf, () => table)) : plainOf(check(file, plain, () => table));
  return { ...own, ...(whole.tokenizer_json !== undefined && { tokenizerJson: whole.tokenizer_json }) };
}

function plainOf(table: z.output<typeof plain>): TomlModel {
  return {
    modelId: table.model_id,
    ...sharedOf(table),
    ...(table.arch !== undefined && { arch: table.arch }),
    ...(table.from_uqff !== undefined && { fromUqff: table.from_uqff }),
  };
}

function ggufOf(table: z.output<typeof gguf>): TomlModel {
  const names = table.quantized_filename.split(/[; ]+/);
  return { ...ggufModel(table.quantized_model_id, names, table.tok_model_id), ...sharedOf(table) };
}

function sharedOf(table: z.output<z.ZodObject<typeof shared>>) {
  const { topology, organization, write_uqff, imatrix, calibration_file } = table;
  return {
    ...(topology !== undefined && { topology }),
    ...(organization !== undefined && { organization: parseOrganization(organization) }),
    ...(write_uqff !== undefined && { writeUqff: write_uqff }),
    ...(imatrix !== undefined && { imatrix }),
    ...(calibration_file !== undefined && { calibrationFile: calibration_file }),
  };
}

function check<Schema extends z.ZodType>(
  file: string,
  schema: Schema,
  value: () => unknown,
): z.output<Schema> {
  let read: unknown;
  try {
    read = value();
  } catch (cause) {
    const [reason] = (cause as Error).message.split("\n");
    throw new IsqError("option/invalid", `${file} is not TOML: ${reason}`, { file }, { cause });
  }
  const parsed = schema.safeParse(read);
  if (parsed.success) return parsed.data;
  const [{ code, path, message }] = parsed.error.issues;
  const field = path.map(String).join(".") || "model";
  const keys = schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
  const known = code === "unrecognized_keys" ? `; the keys are ${keys.join(", ")}` : "";
  throw new IsqError("option/invalid", `${file}: ${message}${path.length > 0 ? ` (${field})` : ""}${known}`, {
    file,
    field,
    ...(known !== "" && { limit: keys }),
  });
}
