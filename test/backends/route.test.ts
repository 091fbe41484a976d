import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Router } from "../../src/backends/program.js";
import { routeRow, rowsByExpert } from "../../src/backends/route.js";

const row = (experts: number) =>
  fc
    .uniqueArray(fc.integer({ min: -4000, max: 4000 }), { minLength: experts, maxLength: experts })
    .map((values) => Float32Array.from(values, (value) => value / 512));

const softmax = (x: ArrayLike<number>) => {
  const e = Array.from(x, (value) => Math.exp(value));
  const sum = e.reduce((a, b) => a + b);
  return e.map((value) => value / sum);
};
const sigmoid = (x: ArrayLike<number>) => Array.from(x, (value) => 1 / (1 + Math.exp(-value)));
const descending = (values: readonly number[]) =>
  values.map((_, i) => i).sort((i, j) => values[j] - values[i]);

/** No two are so near that binary32 could order them otherwise. */
const isApart = (values: readonly number[]) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.every((value, i) => i === 0 || value - sorted[i - 1] > 1e-5);
};

function expectRouted(
  { chosen, weights }: ReturnType<typeof routeRow>,
  wanted: readonly number[],
  wantedWeights: readonly number[],
) {
  expect([...chosen]).toEqual(wanted);
  for (const [j, weight] of wantedWeights.entries()) expect(Math.abs(weights[j] - weight)).toBeLessThan(2e-6);
}

describe("routers, against what they say in binary64", () => {
  test("softmax: the largest shares, as they are or made to sum to 1", () => {
    fc.assert(
      fc.property(row(8), (x) => {
        const scores = softmax(x);
        const wanted = descending(scores).slice(0, 3);
        const weights = wanted.map((expert) => scores[expert]);
        const sum = weights.reduce((a, b) => a + b);
        const router = { kind: "scores", scores: "softmax" } as const;
        expectRouted(
          routeRow({ ...router, scale: 2 }, x, undefined, 3),
          wanted,
          weights.map((w) => 2 * w),
        );
        const normalize = { epsilon: 0 };
        const normalized = routeRow({ ...router, scale: 1, normalize }, x, undefined, 3);
        expectRouted(
          normalized,
          wanted,
          weights.map((w) => w / sum),
        );
      }),
    );
  });

  test("sigmoid with a bias that chooses and does not weigh, in the best groups by their two best", () => {
    fc.assert(
      fc.property(row(12), row(12), (x, bias) => {
        const scores = sigmoid(x);
        const choice = scores.map((score, i) => score + bias[i]);
        const groups = [0, 1, 2, 3].map((group) => {
          const own = choice.slice(3 * group, 3 * group + 3).sort((a, b) => b - a);
          return own[0] + own[1];
        });
        fc.pre(isApart(choice) && isApart(groups));
        const best = descending(groups).slice(0, 2);
        const wanted = descending(choice)
          .filter((expert) => best.includes(Math.floor(expert / 3)))
          .slice(0, 4);
        const sum = wanted.reduce((total, expert) => total + scores[expert], 0);
        const router: Router = {
          kind: "scores",
          scores: "sigmoid",
          groups: { count: 4, chosen: 2, rate: "twoLargest" },
          normalize: { epsilon: 1e-20 },
          scale: 2.5,
        };
        const weights = wanted.map((expert) => (2.5 * scores[expert]) / sum);
        expectRouted(routeRow(router, x, bias, 4), wanted, weights);
      }),
    );
  });

  test("groups by their best", () => {
    const x = Float32Array.of(1, 8, 2, 3, 7, 6, 5, 4);
    const router = { kind: "scores", scores: "softmax", scale: 1 } as const;
    const groups = { count: 4, chosen: 2, rate: "largest" } as const;
    expect([...routeRow({ ...router, groups }, x, undefined, 3).chosen]).toEqual([1, 4, 5]);
    expect([...routeRow({ ...router }, x, undefined, 3).chosen]).toEqual([1, 4, 5]);
    expect([...routeRow({ ...router, groups: { ...groups, chosen: 1 } }, x, undefined, 2).chosen]).toEqual([
      1, 0,
    ]);
  });

  test("sparse mixer: each share is among those within reach of the best that is left", () => {
    fc.assert(
      fc.property(row(6), (x) => {
        const jitter = 0.3;
        const left = [...x];
        const wanted: number[] = [];
        const weights: number[] = [];
        for (let j = 0; j < 2; j++) {
          const top = Math.max(...left);
          const near = left.map((value, i) => {
            const far = (top - x[i]) / Math.max(Math.abs(x[i]), top);
            // Ties with the limit may fall to either side in binary32.
            fc.pre(Math.abs(far - 2 * jitter) > 1e-5);
            return far > 2 * jitter ? Number.NEGATIVE_INFINITY : value;
          });
          const best = left.indexOf(top);
          wanted.push(best);
          weights.push(softmax(near)[best]);
          left[best] = Number.NEGATIVE_INFINITY;
        }
        expectRouted(routeRow({ kind: "sparseMixer", jitter }, x, undefined, 2), wanted, weights);
      }),
    );
  });

  test("ties go to the lower index, and NaN still names experts, each once", () => {
    const router = { kind: "scores", scores: "softmax", scale: 1 } as const;
    expect([...routeRow(router, Float32Array.of(1, 2, 2, 1), undefined, 3).chosen]).toEqual([1, 2, 0]);
    const nan = new Float32Array(4).fill(Number.NaN);
    expect([...routeRow(router, nan, undefined, 3).chosen]).toEqual([0, 1, 2]);
    expect([...routeRow({ kind: "sparseMixer", jitter: 0.01 }, nan, undefined, 2).chosen]).toEqual([0, 1]);
  });
});

test("rows by expert: only those that were chosen, both in ascending order", () => {
  expect([...rowsByExpert(Float32Array.of(5, 2, 5, 0, 2, 5))]).toEqual([
    [0, [3]],
    [2, [1, 4]],
    [5, [0, 2, 5]],
  ]);
});
