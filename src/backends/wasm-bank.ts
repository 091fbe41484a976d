/** One instance of the WebAssembly module with its memory, dealt out in 64-byte units. A backend or worker has one or more. */

import { instantiate } from "@assemblyscript/loader";
import { IsqError } from "../errors.js";
import { WASM_BASE64 } from "./wasm-bytes.js";
import type { PreparedRows } from "./wasm-product.js";

type Kernel = (...args: number[]) => number;

const PAGE = 65536;
const ALIGNMENT = 64;
/** A memory grows by at least this, 4 MiB: growing takes milliseconds, and pages that nobody touches take no memory. */
const GROWTH_PAGES = 64;
/** WebAssembly memories with 32-bit addresses end here. */
export const MOST_BANK_BYTES = 65536 * PAGE;

/** Room for one stage of a product and its results; see wasm-linear.ts. */
const STAGE_ROOM_BYTES = 8 * 2 ** 20;

let compiled: Promise<WebAssembly.Module> | undefined;

/** The module, compiled once. Throws `backend/unavailable` where there is no WebAssembly with SIMD. */
export function compileModule(): Promise<WebAssembly.Module> {
  compiled ??= compile();
  return compiled;
}

async function compile(): Promise<WebAssembly.Module> {
  try {
    return await WebAssembly.compile(decodeBase64(WASM_BASE64));
  } catch (cause) {
    const message = "this runtime has no WebAssembly with SIMD; use the reference backend";
    throw new IsqError("backend/unavailable", message, { field: "WebAssembly" }, { cause });
  }
}

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

interface Range {
  start: number;
  end: number;
}

/**
 * Memory and kernels of one instance. Views (`bytes`, `floats`, `words`) are to be asked for again after every
 * allocation: growing replaces them.
 */
export class Bank {
  readonly #memory: WebAssembly.Memory;
  readonly #exports: Record<string, Kernel>;
  readonly #limit: number;
  readonly #sizes = new Map<number, number>();
  /** Free ranges, ascending, never adjacent. */
  readonly #free: Range[];
  #bytes: Uint8Array;
  #floats: Float32Array;
  #words: Int32Array;
  #scratch = 0;
  #scratchBytes = 0;
  /** Activations that are in scratch since its last use; see wasm-product.ts. */
  prepared: PreparedRows | null = null;

  private constructor(memory: WebAssembly.Memory, exports: Record<string, unknown>, limit: number) {
    this.#memory = memory;
    this.#exports = exports as Record<string, Kernel>;
    this.#limit = limit;
    const base = (exports["HEAP_BASE"] as WebAssembly.Global).value as number;
    this.#free = [{ start: base, end: limit }];
    this.#bytes = new Uint8Array(memory.buffer);
    this.#floats = new Float32Array(memory.buffer);
    this.#words = new Int32Array(memory.buffer);
  }

  /** @param limit Most bytes of the memory; a multiple of 64 KiB. */
  static async open(limit = MOST_BANK_BYTES): Promise<Bank> {
    const memory = new WebAssembly.Memory({ initial: 2, maximum: limit / PAGE });
    // The instance's own exports: the loader's wrap each in a function that counts its arguments.
    const { instance } = await instantiate(await compileModule(), { env: { memory } });
    return new Bank(memory, instance.exports, limit);
  }

  get bytes(): Uint8Array {
    this.#refresh();
    return this.#bytes;
  }

  get floats(): Float32Array {
    this.#refresh();
    return this.#floats;
  }

  get words(): Int32Array {
    this.#refresh();
    return this.#words;
  }

  /** Bytes of the memory as it is now. */
  get byteLength(): number {
    return this.#memory.buffer.byteLength;
  }

  /** Calls an exported function by name. */
  call(name: string, ...args: number[]): number {
    return this.#exports[name](...args);
  }

  /** The address of `byteLength` bytes, a multiple of 64, or null when there is no room below `ceiling`. */
  tryAllocate(byteLength: number, ceiling = Number.POSITIVE_INFINITY): number | null {
    const size = Math.max(ALIGNMENT, Math.ceil(byteLength / ALIGNMENT) * ALIGNMENT);
    const index = this.#free.findIndex(({ start, end }) => Math.min(end, ceiling) - start >= size);
    if (index < 0) return null;
    const range = this.#free[index];
    const address = range.start;
    if (!this.#reach(address + size)) return null;
    range.start += size;
    if (range.start === range.end) this.#free.splice(index, 1);
    this.#sizes.set(address, size);
    return address;
  }

  /** As {@link tryAllocate}; throws `backend/memory`. */
  allocate(byteLength: number): number {
    const address = this.tryAllocate(byteLength);
    if (address !== null) return address;
    throw new IsqError("backend/memory", `a WebAssembly memory has no room for ${byteLength} bytes`, {
      field: "memory",
      value: byteLength,
      limit: this.byteLength,
    });
  }

  free(address: number): void {
    const start = address;
    const end = address + (this.#sizes.get(address) ?? 0);
    this.#sizes.delete(address);
    const index = this.#free.findIndex((range) => range.start >= end);
    const at = index < 0 ? this.#free.length : index;
    this.#free.splice(at, 0, { start, end });
    for (let i = Math.max(1, at); i <= at + 1 && i < this.#free.length; ) {
      const [before, after] = [this.#free[i - 1], this.#free[i]];
      if (before.end !== after.start) i++;
      else {
        before.end = after.end;
        this.#free.splice(i, 1);
      }
    }
  }

  /**
   * Addresses of areas that last until the next call: room for the arguments of one kernel. Throws `backend/memory`.
   */
  scratch(...byteLengths: number[]): number[] {
    this.prepared = null;
    const sizes = byteLengths.map((byteLength) => Math.ceil(byteLength / ALIGNMENT) * ALIGNMENT);
    const total = sizes.reduce((sum, size) => sum + size, 0);
    if (total > this.#scratchBytes) {
      if (this.#scratchBytes > 0) this.free(this.#scratch);
      this.#scratchBytes = 0;
      this.#scratch = this.allocate(total);
      this.#scratchBytes = total;
    }
    let next = this.#scratch;
    return sizes.map((size) => {
      const address = next;
      next += size;
      return address;
    });
  }

  /** Grows the memory to `end` bytes. */
  #reach(end: number): boolean {
    const missing = Math.ceil((end - this.byteLength) / PAGE);
    if (missing <= 0) return true;
    const left = (this.#limit - this.byteLength) / PAGE;
    return this.#grow(Math.min(left, Math.max(missing, GROWTH_PAGES))) || this.#grow(missing);
  }

  #grow(pages: number): boolean {
    try {
      this.#memory.grow(pages);
      return true;
    } catch {
      return false; // the machine has no more
    }
  }

  #refresh(): void {
    if (this.#bytes.buffer === this.#memory.buffer) return;
    this.#bytes = new Uint8Array(this.#memory.buffer);
    this.#floats = new Float32Array(this.#memory.buffer);
    this.#words = new Int32Array(this.#memory.buffer);
  }
}

/** Memories that are opened one after the other as they fill up. */
export class Banks {
  readonly list: Bank[] = [];
  readonly #limit: number;
  readonly #most: number;

  private constructor(limit: number, most: number) {
    this.#limit = limit;
    this.#most = most;
  }

  /**
   * @param limit Most bytes of one memory.
   * @param total Most bytes of all of them.
   */
  static async open(limit = MOST_BANK_BYTES, total = Number.POSITIVE_INFINITY): Promise<Banks> {
    const banks = new Banks(limit, Math.max(1, Math.floor(total / limit)));
    banks.list.push(await Bank.open(limit));
    return banks;
  }

  /** The memory that kernels work in. */
  get first(): Bank {
    return this.list[0];
  }

  /**
   * A memory with room for `byteLength` bytes of weights and where. Leaves room for what kernels work on. Throws
   * `backend/memory`.
   */
  async allocate(byteLength: number): Promise<{ bank: Bank; address: number }> {
    for (const bank of this.list) {
      const address = bank.tryAllocate(byteLength, this.#ceiling(bank));
      if (address !== null) return { bank, address };
    }
    if (this.list.length >= this.#most) {
      throw new IsqError("backend/memory", `the memories have no room for ${byteLength} bytes more`, {
        field: "memory",
        value: byteLength,
        limit: this.#most * this.#limit,
      });
    }
    const bank = await Bank.open(this.#limit);
    this.list.push(bank);
    return { bank, address: bank.allocate(byteLength) };
  }

  /** Where weights end: a quarter of the first memory is for cache and activations, a stage of the others for products. */
  #ceiling(bank: Bank): number {
    const quarter = this.#limit / 4;
    return this.#limit - (bank === this.first ? quarter : Math.min(quarter, STAGE_ROOM_BYTES));
  }
}
