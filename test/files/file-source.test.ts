/** Files as the system has them: pipes, folders, closed handles, files that nobody may read. */

import { execFileSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readFile } from "../../src/files/directory.js";
import { readRange } from "../../src/files/source.js";
import { openDirectory } from "../../src/node/directory.js";
import { openFile } from "../../src/node/file-source.js";

const posix = process.platform !== "win32";
let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "isq-source-"));
  path = join(folder, "data");
  await writeFile(path, new Uint8Array(1000).fill(7));
});
afterAll(() => rm(folder, { recursive: true }));

describe("what is no regular file is refused at once", () => {
  test("a folder", async () => {
    await mkdir(join(folder, "folder"));
    const refusal = { name: "IsqError", tag: "source/open", details: { file: join(folder, "folder") } };
    await expect(openFile(join(folder, "folder"))).rejects.toMatchObject(refusal);
  });

  // Opening a pipe waits for its other end, so a careless reader hangs here for ever.
  test.runIf(posix)("a pipe", { timeout: 5000 }, async () => {
    const pipe = join(folder, "pipe");
    execFileSync("mkfifo", [pipe]);
    await expect(openFile(pipe)).rejects.toMatchObject({ tag: "source/open", details: { file: pipe } });
    expect(await (await openDirectory(folder)).has("pipe")).toBe(false);
  });

  test.runIf(posix)("a device", { timeout: 5000 }, async () => {
    await expect(openFile("/dev/zero")).rejects.toMatchObject({ tag: "source/open" });
  });

  test.runIf(posix)("a link that leads nowhere", async () => {
    await symlink(join(folder, "nothing"), join(folder, "link"));
    await expect(openFile(join(folder, "link"))).rejects.toMatchObject({ tag: "source/open" });
  });

  test.runIf(posix)("a file without permission", async () => {
    const secret = join(folder, "secret");
    await writeFile(secret, "x");
    await chmod(secret, 0);
    // The superuser may read everything, so as root the test becomes nobody for a moment.
    const root = process.geteuid?.() === 0;
    if (root) process.seteuid?.(65534);
    try {
      await expect(openFile(secret)).rejects.toMatchObject({ tag: "source/open" });
    } finally {
      if (root) process.seteuid?.(0);
    }
  });
});

test("a link to a file is that file", async () => {
  await symlink(path, join(folder, "alias"));
  expect(await readFile(await openDirectory(folder), "alias", 1000)).toHaveLength(1000);
});

test("reading after closing is refused; closing twice is not", async () => {
  const source = await openFile(path);
  await source.close?.();
  await source.close?.();
  await expect(readRange(source, 0, 10)).rejects.toMatchObject({
    name: "IsqError",
    tag: "source/read",
    details: { file: path },
  });
});

test("a file that shrinks gives what it still has, and short reads after that", async () => {
  const shrinking = join(folder, "shrinking");
  await writeFile(shrinking, new Uint8Array(1000));
  const source = await openFile(shrinking);
  await truncate(shrinking, 100);
  expect(await readRange(source, 0, 100)).toHaveLength(100);
  for (const [start, end, value] of [
    [50, 150, 50],
    [500, 600, 0],
  ]) {
    await expect(readRange(source, start, end)).rejects.toMatchObject({
      tag: "source/short",
      details: { file: shrinking, value, limit: 100 },
    });
  }
  await source.close?.();
});

test("many ranges at once", async () => {
  const source = await openFile(path);
  const ranges = Array.from({ length: 200 }, (_, i) => readRange(source, i, i + 500));
  for (const bytes of await Promise.all(ranges)) expect(bytes).toEqual(new Uint8Array(500).fill(7));
  await source.close?.();
});
