/** A seeded stream of numbers: the same in every runtime, since it uses only integer steps, + - · / and bit patterns. */

/** A stream of 32-bit words from a seed. */
export interface Random {
  word(): number;
  /** In [0, 1). */
  unit(): number;
  /** Integer in [low, high]. */
  integer(low: number, high: number): number;
  /** Near enough to normal(0, 1), within ±6. */
  gauss(): number;
  pick<T>(items: readonly T[]): T;
}

export function randomFrom(seed: number): Random {
  let state = seed | 0;
  const word = () => {
    state = (state + 0x9e3779b9) | 0;
    let h = state;
    h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
    h = Math.imul(h ^ (h >>> 12), 0x297a2d39);
    return (h ^ (h >>> 15)) >>> 0;
  };
  const unit = () => word() / 4294967296;
  return {
    word,
    unit,
    integer: (low, high) => low + Math.floor(unit() * (high - low + 1)),
    gauss: () => {
      let sum = -6;
      for (let i = 0; i < 12; i++) sum += unit();
      return sum;
    },
    pick: (items) => items[Math.floor(unit() * items.length)],
  };
}
