// Timing on a machine that others use too. What is timed is the processor time of this process (user and system), which does
// not grow while somebody else has the core; the competitors take turns, so that a slow second hits both; results are
// medians, ratios are medians of the ratios of neighbours.

/** Seconds of processor time, all threads of the process. */
export function processorSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Calls `work` as often as a sample of at least `least` seconds needs. */
function calibrate(work, least) {
  let calls = 1;
  for (;;) {
    const start = processorSeconds();
    for (let i = 0; i < calls; i++) work();
    const seconds = processorSeconds() - start;
    if (seconds >= least) return calls;
    calls = seconds < least / 50 ? calls * 8 : Math.ceil((calls * least * 1.2) / seconds);
  }
}

/**
 * Interleaves the works A B A B …: `rounds` samples each of at least `least` seconds. Returns per name the median seconds
 * of one call. `ratio(a, b)`: median of time a / time b within a round.
 */
export function interleave(works, { rounds, least }) {
  const names = Object.keys(works);
  const calls = names.map((name) => calibrate(works[name], least));
  const samples = names.map(() => []);
  for (let round = 0; round < rounds; round++) {
    names.forEach((name, k) => {
      const start = processorSeconds();
      for (let i = 0; i < calls[k]; i++) works[name]();
      samples[k].push((processorSeconds() - start) / calls[k]);
    });
  }
  const of = (name) => samples[names.indexOf(name)];
  return {
    seconds: Object.fromEntries(names.map((name) => [name, median(of(name))])),
    ratio: (a, b) => median(of(a).map((seconds, i) => seconds / of(b)[i])),
  };
}

/** Normally distributed values, the same for every run. */
export function gaussian(count, seed = 1) {
  let state = seed >>> 0 || 1;
  const unit = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) + 0.5) / 4294967296;
  };
  const out = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(unit()));
    const angle = 2 * Math.PI * unit();
    out[i] = radius * Math.cos(angle);
    if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}
