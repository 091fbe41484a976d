/**
 * Chat templates, run by @huggingface/jinja with a bound on their work: they come from files of strangers, and a line of
 * them can loop for ever or print a list of itself twice, twice, twice.
 */

import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { LIMITS } from "../limits.js";

/** A value of a running template: of lists and maps `value` is an array or a Map of such. */
interface Value {
  readonly type: string;
  readonly value: unknown;
}

interface Runs {
  readonly global: { set(name: string, value: unknown): void };
  run(program: unknown): Value;
  evaluate(node: unknown, environment: unknown): Value;
}

/** The types of the library's interpreter name modules that TypeScript does not find from here. */
const Base = Interpreter as unknown as new (environment: unknown) => Runs;

/** What work costs, in characters that are copied. */
const COST = { operation: 64, turn: 256, item: 8, date: 40_000 };

const TOO_LONG = `a value has more than ${LIMITS.templateValue} characters`;

/** Throws the error of the parser where `source` is not Jinja. */
export function parseTemplate(source: string): Template {
  return new Template(source);
}

/** Renders a template with variables. Throws its errors, and one beyond `templateWork` or `templateValue`. */
export function renderTemplate(source: string, variables: Readonly<Record<string, unknown>>): string {
  const { parsed } = parseTemplate(source);
  const interpreter = new BoundInterpreter(parsed);
  for (const [name, value] of Object.entries(variables)) interpreter.global.set(name, value);
  return interpreter.run(parsed).value as string;
}

/** Every value is paid for by its size when it is computed, read or printed, so that no operation is cheap and long. */
class BoundInterpreter extends Base {
  #left: number = LIMITS.templateWork;
  /** Operands whose items are not looked at as a whole, and what each of them costs instead. */
  readonly #glances = new Map<unknown, number>();
  /** What printing a value costs, if that cannot change any more. */
  readonly #costs = new WeakMap<object, number>();

  constructor(program: unknown) {
    super(new Environment());
    this.#findGlances(program);
    const { global } = this;
    for (const [name, value] of Object.entries({ true: true, false: false, none: null })) {
      global.set(name, value);
      global.set(name[0].toUpperCase() + name.slice(1), value);
    }
    global.set("raise_exception", (message: unknown) => {
      throw new Error(String(message));
    });
    global.set("range", (start: number, stop?: number, step?: number) => this.#range(start, stop, step));
    global.set("strftime_now", (format: unknown) => {
      this.#spend(COST.date);
      return new Template("{{ strftime_now(format) }}").render({ format });
    });
  }

  override evaluate(node: unknown, environment: unknown): Value {
    this.#spend(COST.operation);
    const value = super.evaluate(node, environment);
    const each = this.#glances.get(node);
    if (each === undefined) this.#pay(value);
    else this.#spend(sizeOf(value.value, each));
    return value;
  }

  #spend(work: number): void {
    this.#left -= work;
    if (!(this.#left >= 0)) throw new Error(`it takes more than ${LIMITS.templateWork} characters' work`);
  }

  /** Returns what printing the value costs, or undefined where it holds a namespace, which may grow. */
  #pay(value: Value): number | undefined {
    const { value: inner } = value;
    const known = typeof inner === "object" && inner !== null ? this.#costs.get(inner) : undefined;
    const own = known ?? sizeOf(inner);
    if (own > LIMITS.templateValue) throw new Error(TOO_LONG);
    this.#spend(own);
    if (known !== undefined || !(inner instanceof Map || Array.isArray(inner))) return own;
    let total = own;
    let isFixed = value.type !== "NamespaceValue";
    for (const item of inner.values()) {
      const cost = this.#pay(item);
      if (cost === undefined) isFixed = false;
      else total += cost;
    }
    if (!isFixed) return undefined;
    if (total > LIMITS.templateValue) throw new Error(TOO_LONG);
    this.#costs.set(inner, total);
    return total;
  }

  #range(start: number, stop?: number, step = 1): number[] {
    const [first, last] = typeof stop === "number" ? [start, stop] : [0, start];
    const by = typeof step === "number" ? step : 1;
    if (by === 0) throw new Error("range() step must not be zero");
    const count = Math.max(0, Math.ceil((last - first) / by));
    this.#spend(COST.item * count);
    return Array.from({ length: count }, (_, i) => first + i * by);
  }

  #findGlances(node: unknown): void {
    if (node === null || typeof node !== "object") return;
    const { type } = node as { type?: string };
    for (const [name, child] of node instanceof Map
      ? [...node].map((pair) => ["", pair])
      : Object.entries(node)) {
      const [field, each] = GLANCES[type ?? ""] ?? [];
      if (field === name) this.#glances.set(child, each!);
      this.#findGlances(child);
    }
  }
}

/** Of nodes, the operand of which only a part is looked at, or every item in a turn of its own. */
const GLANCES: Readonly<Record<string, readonly [field: string, each: number]>> = {
  For: ["iterable", COST.turn],
  MemberExpression: ["object", COST.item],
  SelectExpression: ["lhs", COST.turn],
  TestExpression: ["operand", COST.item],
};

function sizeOf(inner: unknown, each: number = COST.item): number {
  if (typeof inner === "string") return inner.length;
  if (Array.isArray(inner)) return COST.item + each * inner.length;
  return COST.item + (inner instanceof Map ? each * inner.size : 0);
}
