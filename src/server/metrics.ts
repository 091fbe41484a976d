/** Counters in the text format of Prometheus. */

export interface Metrics {
  /** A request was answered. */
  answered(route: string, status: number, seconds: number): void;
  tokens(kind: "prompt" | "completion", count: number): void;
  /** Seconds to the first token of a text. */
  firstToken(seconds: number): void;
  /** A text ended. */
  finished(reason: string): void;
  /** Everything, with `gauges` read now. */
  render(gauges: Readonly<Record<string, readonly [value: number, help: string]>>): string;
}

const SECONDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

export function createMetrics(): Metrics {
  const requests = createCounter("isq_http_requests_total", "Answered requests");
  const tokens = createCounter("isq_tokens_total", "Tokens run, by kind");
  const texts = createCounter("isq_texts_total", "Ended texts, by reason");
  const duration = createHistogram(
    "isq_http_request_seconds",
    "Seconds to an answer, or to the start of a stream",
  );
  const first = createHistogram("isq_first_token_seconds", "Seconds to the first token of a text");
  return {
    answered(route, status, seconds) {
      requests.add({ route, status: String(status) }, 1);
      duration.observe(seconds);
    },
    tokens: (kind, count) => tokens.add({ kind }, count),
    firstToken: (seconds) => first.observe(seconds),
    finished: (reason) => texts.add({ reason }, 1),
    render(gauges) {
      const lines = [requests, tokens, texts, duration, first].flatMap((metric) => metric.lines());
      for (const [name, [value, help]] of Object.entries(gauges)) {
        lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} gauge`, `${name} ${value}`);
      }
      return `${lines.join("\n")}\n`;
    },
  };
}

function createCounter(name: string, help: string) {
  const values = new Map<string, number>();
  return {
    add(labels: Readonly<Record<string, string>>, count: number) {
      const pairs = Object.entries(labels).map(([label, value]) => `${label}=${JSON.stringify(value)}`);
      const key = `{${pairs.join(",")}}`;
      values.set(key, (values.get(key) ?? 0) + count);
    },
    lines: () => [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} counter`,
      ...[...values].map(([labels, value]) => `${name}${labels} ${value}`),
    ],
  };
}

function createHistogram(name: string, help: string) {
  const counts = SECONDS.map(() => 0);
  let [count, sum] = [0, 0];
  return {
    observe(seconds: number) {
      for (const [index, bound] of SECONDS.entries()) if (seconds <= bound) counts[index]++;
      count++;
      sum += seconds;
    },
    lines: () => [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} histogram`,
      ...SECONDS.map((bound, index) => `${name}_bucket{le="${bound}"} ${counts[index]}`),
      `${name}_bucket{le="+Inf"} ${count}`,
      `${name}_sum ${sum}`,
      `${name}_count ${count}`,
    ],
  };
}
