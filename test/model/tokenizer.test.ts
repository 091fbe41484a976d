import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { isIsqError } from "../../src/errors.js";
import { fromFiles } from "../../src/files/directory.js";
import { renderChat } from "../../src/model/chat.js";
import { createTokenizer, openTokenizer, type Tokenizer } from "../../src/model/tokenizer.js";
import { checkTokenizerPatterns } from "../../src/model/tokenizer-patterns.js";
import { openDirectory } from "../../src/node/directory.js";

const FOLDER = "models/tiny-mistral";
const json = JSON.parse(readFileSync(`${FOLDER}/tokenizer.json`, "utf8"));
const settings = JSON.parse(readFileSync(`${FOLDER}/tokenizer_config.json`, "utf8"));
const tokenizer = createTokenizer(json, settings);

/** Every text a decoder hands out, one piece per token, and the rest. */
function streamed(tokens: readonly number[], by: Tokenizer = tokenizer): string[] {
  const decoder = by.createDecoder();
  return [...tokens.map((token) => decoder.push(token)), decoder.flush()];
}

describe("the tokenizer", () => {
  test("adds the BOS where asked and gets texts back", () => {
    const text = "The database connection, naïve café 日本語 🙂👩‍👩‍👧 done.\n\n\ttab";
    const bare = tokenizer.encode(text, { addSpecialTokens: false });
    expect(tokenizer.encode(text)).toEqual([1, ...bare]);
    expect(tokenizer.decode(bare)).toBe(text);
    expect(tokenizer.decode([1, ...bare, 2])).toBe(text);
    expect(tokenizer.decode([1, ...bare], { skipSpecialTokens: false })).toBe(`<s>${text}`);
    expect(tokenizer).toMatchObject({ beginToken: 1, beginText: "<s>", endText: "</s>" });
    expect(tokenizer.encode("", { addSpecialTokens: false })).toEqual([]);
    expect(tokenizer.decode([])).toBe("");
    expect(tokenizer.decode([99_999_999])).toBe("");
  });

  test("streams whole characters only", () => {
    const text = "naïve 日本語 🙂👩‍👩‍👧 x";
    const tokens = tokenizer.encode(text);
    const pieces = streamed(tokens);
    expect(pieces.join("")).toBe(text);
    expect(pieces.length).toBeGreaterThan(text.length / 2); // the vocabulary has no token for most of these
    for (const piece of pieces) expect(piece).not.toMatch(/[\ud800-\udfff\ufffd]/u); // with u: lone surrogates only
  });

  test("streams any bytes to the text of decode", () => {
    const emoji = tokenizer.encode("🙂", { addSpecialTokens: false });
    const kanji = tokenizer.encode("語", { addSpecialTokens: false });
    const cases = [
      emoji.slice(0, -1),
      emoji.slice(1),
      [...emoji.slice(0, 2), ...kanji],
      [...kanji.slice(1), ...emoji],
    ];
    for (const tokens of cases) expect(streamed(tokens).join("")).toBe(tokenizer.decode(tokens));
    let seed = 1;
    for (let round = 0; round < 50; round++) {
      const tokens = Array.from({ length: 30 }, () => {
        seed = (seed * 48271) % 2147483647;
        return seed % 300;
      });
      expect(streamed(tokens).join("")).toBe(tokenizer.decode(tokens));
    }
  });

  test("streams decoders that treat the first token differently", () => {
    const vocab = { "<unk>": 0, "▁Hello": 1, "▁world": 2, "!": 3, "<0xE8>": 4, "<0xAA>": 5, "<0x9E>": 6 };
    const sentencepiece = createTokenizer({
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: {
        type: "Sequence",
        decoders: [
          { type: "Replace", pattern: { String: "▁" }, content: " " },
          { type: "ByteFallback" },
          { type: "Fuse" },
          { type: "Strip", content: " ", start: 1, stop: 0 },
        ],
      },
      model: { type: "BPE", vocab, merges: [], unk_token: "<unk>", byte_fallback: true },
    });
    expect(streamed([1, 2, 4, 5, 6, 2, 3], sentencepiece).join("")).toBe("Hello world語 world!");
  });

  test("opens from a folder, and takes a missing BOS from the config", async () => {
    const opened = await openTokenizer(await openDirectory(FOLDER));
    expect(opened.encode("The database")).toEqual(tokenizer.encode("The database"));
    expect(opened.chatTemplate).toContain("[INST]");
    expect(createTokenizer(json, {}, { beginToken: 7 }).beginToken).toBe(7);
    expect(createTokenizer(json, { bos_token: null }, { beginToken: 7 }).beginToken).toBeNull();
    expect(createTokenizer(json, { bos_token: { content: "<s>" } }).beginToken).toBe(1);
  });

  test("refuses folders without one and files that are none", async () => {
    const folder = (text: string) => fromFiles([["tokenizer.json", new Blob([text])]], "folder");
    const tagOf = (promise: Promise<unknown>) =>
      promise.then(
        () => "none",
        (error) => (isIsqError(error) ? error.tag : String(error)),
      );
    expect(await tagOf(openTokenizer(fromFiles([], "empty")))).toBe("tokenizer/missing");
    for (const text of ["", "{", "[]", "{}", '{"model":{"type":"Unheard"},"added_tokens":[]}']) {
      expect(await tagOf(openTokenizer(folder(text)))).toBe("tokenizer/invalid");
    }
  });
});

describe("patterns of a tokenizer.json", () => {
  const check = (Regex: string) =>
    checkTokenizerPatterns({ pre_tokenizer: { pretokenizers: [{ pattern: { Regex } }] } }, "tokenizer.json");

  test.each([
    ["(a+)+$", /several ways/],
    ["(?:a|a)*$", /several ways/],
    ["(?<x>a?){40}", /several ways/],
    ["((a{2,3}))*", /several ways/],
    ["(?:x(?:a*)){2,}", /several ways/],
    ["(a)\\1+", /refers back/],
    ["(?<x>a)\\k<x>", /refers back/],
    ["a*a*[a]+(?:a*)a{1,}$", /in a row/],
  ])("%s is refused", (pattern, reason) => {
    expect(() => check(pattern)).toThrow(
      expect.objectContaining({
        tag: "tokenizer/invalid",
        message: expect.stringMatching(reason),
        details: expect.objectContaining({ file: "tokenizer.json", field: "Regex", value: pattern }),
      }),
    );
  });

  test.each([
    // GPT-2; Llama 3; GPT-4o; DeepSeek V3; Bloom, with a parenthesis in a set; Gemma's and others' small ones
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    " ?[^(\\s|[.,!?\\u2026\\u3002])]+",
    " {2,}",
    "(?:\\r\\n)+",
    "a{2}(?:bc){3}",
  ])("%s may run", (pattern) => check(pattern));

  test("are looked at when a tokenizer is made, before they meet a text", () => {
    const pre = { type: "Split", pattern: { Regex: "(a+)+$" }, behavior: "Isolated", invert: false };
    expect(() => createTokenizer({ ...json, pre_tokenizer: pre })).toThrow(
      expect.objectContaining({ tag: "tokenizer/invalid" }),
    );
  });
});

describe("chat", () => {
  const messages = [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Hi" },
    { role: "assistant", content: "Hello" },
    { role: "user", content: "Bye" },
  ];

  test("renders the model's template", () => {
    const text = renderChat(tokenizer, messages);
    expect(text).toBe("<s>Be brief.\n[INST] Hi [/INST] Hello</s>[INST] Bye [/INST]");
    expect(tokenizer.encode(text, { addSpecialTokens: false }).filter((id) => id < 5)).toEqual([
      1, 3, 4, 2, 3, 4,
    ]);
  });

  test("hands variables and the generation prompt to the template", () => {
    const chatTemplate = "{% if add_generation_prompt %}>{% endif %}{{ tools[0] }}";
    const own = { ...tokenizer, chatTemplate };
    expect(renderChat(own, messages, { variables: { tools: ["t"] } })).toBe(">t");
    expect(renderChat(own, messages, { addGenerationPrompt: false, variables: { tools: ["t"] } })).toBe("t");
  });

  test.each([
    ["empty turns", "{% for a in range(n) %}{% for b in range(n) %}{% endfor %}{% endfor %}"],
    ["a long range", "{{ range(1000000000000) }}"],
    ["macros that call two each", macros(60)],
    ["a list", doubled("[1]", "n.x + n.x", "")],
    ["lists of lists", doubled("[1]", "[n.x, n.x]", "{{ n.x }}")],
    ["lists of lists", doubled("[1]", "[n.x, n.x]", "{{ n.x | tojson }}")],
    ["maps of maps", doubled("[1]", "{'a': n.x, 'b': n.x}", "{{ n.x == 'x' }}")],
    ["a text", doubled("'ab'", "n.x ~ n.x", "{{ n.x }}")],
    ["a text", doubled("'ab'", "n.x | replace('a', 'aaaa')", "")],
    ["a part", repeated("range(100000)", "{% set y = x[1:] %}")],
    ["a sorted list", repeated("range(100000)", "{{ x | sort | length }}")],
    ["what is not there", repeated("range(100000)", "{{ -1 in x }}")],
    ["a method", repeated("range(100000) | join", "{{ x.upper() == 'A' }}")],
    ["the date", repeated("'%Y'", "{{ strftime_now(x) }}")],
    ["namespaces in lists", namespaces(24)],
  ])("%s: ends, in a refusal", (_, chatTemplate) => {
    expect(() => renderChat({ ...tokenizer, chatTemplate }, messages, { variables: { n: 100_000 } })).toThrow(
      expect.objectContaining({ tag: "tokenizer/invalid", message: expect.stringContaining("more than") }),
    );
  });

  test("a conversation of a thousand messages is far from the bound", () => {
    const long = Array.from({ length: 1000 }, (_, i) => ({
      role: i % 2 ? "assistant" : "user",
      content: "word ".repeat(1000),
    }));
    expect(renderChat(tokenizer, long).length).toBeGreaterThan(5e6);
  });

  test("refuses no messages, no template and templates that fail", () => {
    const tagOf = (run: () => unknown) => {
      try {
        run();
        return "none";
      } catch (error) {
        return isIsqError(error) ? error.tag : String(error);
      }
    };
    expect(tagOf(() => renderChat(tokenizer, []))).toBe("prompt/empty");
    for (const chatTemplate of [null, "{% for %}", "{{ raise_exception('no system role') }}"]) {
      expect(tagOf(() => renderChat({ ...tokenizer, chatTemplate }, messages))).toBe("tokenizer/invalid");
    }
  });
});

/** A template that replaces x by something twice as large, sixty times. */
const doubled = (first: string, next: string, then: string) =>
  `{% set n = namespace(x=${first}) %}{% for i in range(60) %}{% set n.x = ${next} %}{% endfor %}${then}`;

const repeated = (x: string, body: string) =>
  `{% set x = ${x} %}{% for i in range(100000) %}${body}{% endfor %}`;

/** Macros that call the one before twice each. */
function macros(count: number): string {
  const calls = Array.from(
    { length: count },
    (_, i) => `{% macro m${i + 1}() %}{% set x = m${i}() %}{% set x = m${i}() %}{% endmacro %}`,
  );
  return `{% macro m0() %}{% endmacro %}${calls.join("")}{{ m${count}() }}`;
}

/** Namespaces that hold two of the next each, filled after they were put into lists. */
function namespaces(count: number): string {
  const all = Array.from({ length: count }, (_, i) => i);
  const make = all.map((i) => `{% set n${i} = namespace(a=1) %}{% set l${i} = [n${i}, n${i}] %}`);
  const fill = all.slice(1).map((i) => `{% set n${i - 1}.a = l${i} %}`);
  return `${make.join("")}${fill.join("")}{{ l0 | tojson }}`;
}
