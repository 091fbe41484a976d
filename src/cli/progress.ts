/** Progress on standard error: a bar on a terminal, plain lines otherwise. */

export interface Progress {
  update(done: number, total: number, label: string): void;
  /** Ends the bar's line. */
  end(): void;
}

const BAR_CELLS = 30;

/** A bar titled `title`. Without a terminal it prints one line for each tenth of the work. */
export function createProgress(title: string, stream: NodeJS.WriteStream = process.stderr): Progress {
  const started = performance.now();
  let printedTenth = -1;
  let open = false;
  return {
    update(done, total, label) {
      const share = total === 0 ? 1 : done / total;
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      if (stream.isTTY) {
        const filled = Math.round(share * BAR_CELLS);
        const bar = "█".repeat(filled) + "░".repeat(BAR_CELLS - filled);
        const line = `${title} ${bar} ${done}/${total} ${seconds}s ${label}`;
        stream.write(`\r\x1b[2K${line.slice(0, (stream.columns ?? 80) - 1)}`);
        open = true;
        return;
      }
      const tenth = Math.floor(share * 10);
      if (tenth === printedTenth) return;
      printedTenth = tenth;
      stream.write(`${title}: ${done}/${total} (${seconds} s) ${label}\n`);
    },
    end() {
      if (open) stream.write("\n");
      open = false;
    },
  };
}
