/** One definition per flag: what the commands have is what the table says. */

import { expect, test } from "vitest";
import { FLAGS } from "../src/cli/flags.js";
import { createProgram } from "../src/cli/program.js";

type Command = Awaited<ReturnType<typeof createProgram>>;
const everything = (command: Command): Command[] => [command, ...command.commands.flatMap(everything)];
const commands = everything(await createProgram());
const longOf = (form: string) => form.split(" ")[0];

const FORMS = ["plain", "gguf", "toml"];
/** Others have files and types of their own under the same names, a receipt's or an encoder's. */
const isAboutModel = (command: Command) =>
  [...FORMS, "quantize", "imatrix", "re-isq"].includes(command.name()) ||
  command.commands.some((form) => FORMS.includes(form.name()));

test("a flag of the table means the same in every command and model form", () => {
  const defined = new Map<string, string[]>();
  for (const { form, help } of Object.values(FLAGS)) {
    defined.set(longOf(form), [...(defined.get(longOf(form)) ?? []), `${form}: ${help}`]);
  }
  const seen = new Set<string>();
  for (const command of commands.filter(isAboutModel)) {
    for (const option of command.options) {
      const texts = defined.get(option.long!);
      if (!texts) continue;
      seen.add(option.long!);
      const form = option.flags.replace(/^-\w, /, "");
      expect(texts, `${command.name()} ${option.flags}`).toContain(`${form}: ${option.description}`);
    }
  }
  expect([...seen].sort()).toEqual([...defined.keys()].sort());
});

test("serve has the flags of mistral.rs's server, with its letters", () => {
  const serve = commands.find((command) => command.name() === "serve")!;
  const flagsOf = (command: Command) => command.options.map(({ flags }) => flags.replace(/ <.*/, ""));
  expect(flagsOf(serve)).toEqual(
    expect.arrayContaining([
      ...["--serve-ip", "-p, --port", "-l, --log", "-s, --seed", "-t, --truncate-sequence", "--max-seqs"],
      ...["--no-kv-cache", "-c, --chat-template", "--token-source", "-i, --interactive-mode"],
      ...["--prefix-cache-n", "-n, --num-device-layers", "--isq", "--pa-gpu-mem", "--pa-gpu-mem-usage"],
      ...["--pa-ctxt-len", "--pa-blk-size", "--no-paged-attn", "--paged-attn", "--throughput"],
      ...["--prompt-batchsize", "--device", "--threads"],
    ]),
  );
  const plain = serve.commands.find((command) => command.name() === "plain")!;
  expect(flagsOf(plain)).toEqual(
    expect.arrayContaining([
      ...["-m, --model-id", "-t, --tokenizer-json", "-a, --arch", "--topology", "-o, --organization"],
      ...["-w, --write-uqff", "-f, --from-uqff", "-i, --imatrix", "-c, --calibration-file"],
    ]),
  );
});
