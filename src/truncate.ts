/** Prompts that are too long for the context. */

/** A prompt that fits the context with room for `room` tokens: its end, after the first token where that is the BOS. */
export function truncatePrompt(
  tokens: readonly number[],
  contextLength: number,
  room: number,
  beginToken: number | null,
): readonly number[] {
  if (tokens.length <= contextLength) return tokens;
  const kept = Math.max(1, contextLength - room);
  const head = tokens[0] === beginToken && kept > 1 ? [tokens[0]] : [];
  return [...head, ...tokens.slice(tokens.length - kept + head.length)];
}
