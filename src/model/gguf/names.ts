/**
 * Tensor names: Hugging Face checkpoints on one side, GGUF files on the other. Both are patterns with `{l}` for the layer and
 * `{e}` for the expert; the suffix (`.weight`, `.bias`) is the same on both sides unless a pattern has one of its own.
 */

/** What happens to the data between the two. */
export type Change =
  /** The same bytes. */
  | "none"
  /** Rows of each head: half-split pairs in the checkpoint, interleaved pairs in the file. Heads of queries or of keys. */
  | "rope-queries"
  | "rope-keys"
  /** The file has the weight plus one. */
  | "plus-one"
  /** A matrix of one row, which is a vector in the file. */
  | "row";

export interface TensorRule {
  /** Checkpoint pattern: `model.layers.{l}.self_attn.q_proj`. */
  readonly checkpoint: string;
  /** GGUF pattern: `blk.{l}.attn_q`. */
  readonly gguf: string;
  readonly change: Change;
}

export function rule(checkpoint: string, gguf: string, change: Change = "none"): TensorRule {
  return { checkpoint, gguf, change };
}

/** A tensor name taken apart by a rule. */
export interface NameMatch {
  readonly rule: TensorRule;
  /** The name on the other side; patterns with `{e}` only on one side leave the expert out. */
  readonly name: string;
  readonly expert: number | null;
}

/** The GGUF names of a tensor of a checkpoint: none when no rule knows it, several when it is split. */
export function ggufNamesOf(rules: readonly TensorRule[], checkpoint: string): NameMatch[] {
  return rules.flatMap((rule) => match(rule, rule.checkpoint, rule.gguf, checkpoint) ?? []);
}

/** The checkpoint's name of a GGUF tensor; `{e}` stays in it for tensors that hold all experts. Null: no rule knows it. */
export function checkpointNameOf(rules: readonly TensorRule[], gguf: string): NameMatch | null {
  for (const rule of rules) {
    const found = match(rule, rule.gguf, rule.checkpoint, gguf);
    if (found) return found;
  }
  return null;
}

const SUFFIX = /\.(weight|bias)$/;

function match(rule: TensorRule, from: string, to: string, name: string): NameMatch | null {
  const own = SUFFIX.test(from) || SUFFIX.test(to);
  const suffix = own ? "" : (SUFFIX.exec(name)?.[0] ?? null);
  if (suffix === null) return null;
  const found = patternOf(from).exec(name.slice(0, name.length - suffix.length));
  if (!found) return null;
  const { l, e } = found.groups ?? {};
  const other = l === undefined ? to : to.replace("{l}", l);
  return { rule, name: other + suffix, expert: e === undefined ? null : Number(e) };
}

const PATTERNS = new Map<string, RegExp>();

/** Numbers without leading zeros, so that every name has one meaning. */
function patternOf(pattern: string): RegExp {
  let made = PATTERNS.get(pattern);
  if (!made) {
    const escaped = pattern.replace(/[.]/g, "\\.");
    const source = escaped.replace("{l}", "(?<l>0|[1-9]\\d{0,5})").replace("{e}", "(?<e>0|[1-9]\\d{0,5})");
    made = new RegExp(`^${source}$`);
    PATTERNS.set(pattern, made);
  }
  return made;
}
