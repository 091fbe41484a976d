/**
 * The map of a tensor's units: a canvas in a frame, which is a slider over the units for whoever uses the keyboard or a screen
 * reader; the mouse chooses as well. Where there are more units than pixels
 * a cell stands for several and shows the largest value.
 */

export interface HeatMap {
  /** Shows values, one per unit in lines of `perLine`. NaN has a colour of its own. */
  draw(values: Float32Array, perLine: number): void;
  /** Moves the mark to a unit; `text` says where that is and how large its value. */
  mark(unit: number, text: string): void;
}

const MOST_CELLS = 1024;
const LARGEST_CELL = 16;

/** Units to a line of a map that is about as wide as high: whole lines of the tensor, side by side. */
export function mapWidth(count: number, perLine: number): number {
  return perLine * Math.max(1, Math.round(Math.sqrt(count) / perLine));
}

/** Nine steps from light to dark: their lightness alone tells them apart. */
const SCALE = [
  "#f7fbff",
  "#deebf7",
  "#c6dbef",
  "#9ecae1",
  "#6baed6",
  "#4292c6",
  "#2171b5",
  "#08519c",
  "#08306b",
];
const NOT_A_NUMBER = "#d62728";
const MARK = "#ff7f0e";

interface Grid {
  readonly values: Float32Array;
  readonly perLine: number;
  readonly lines: number;
  /** Units to a cell, across and down. */
  readonly across: number;
  readonly down: number;
  /** Pixels of a cell. */
  readonly size: number;
}

export function createHeatMap(
  frame: HTMLElement,
  canvas: HTMLCanvasElement,
  choose: (unit: number) => void,
): HeatMap {
  let grid: Grid | null = null;
  let marked = 0;

  const cellOf = (unit: number, { perLine, across, down }: Grid) => [
    Math.floor((unit % perLine) / across),
    Math.floor(Math.floor(unit / perLine) / down),
  ];
  /** The unit of a cell with the largest value. */
  const worstOf = (column: number, line: number, { values, perLine, lines, across, down }: Grid): number => {
    let worst = line * down * perLine + column * across;
    for (let y = line * down; y < Math.min(lines, (line + 1) * down); y++) {
      for (let x = column * across; x < Math.min(perLine, (column + 1) * across); x++) {
        const unit = y * perLine + x;
        if (unit < values.length && !(values[unit] <= values[worst])) worst = unit;
      }
    }
    return worst;
  };
  const paint = () => {
    const context = canvas.getContext("2d");
    if (!grid || !context) return;
    const { values, perLine, lines, across, down, size } = grid;
    const [columns, rows] = [Math.ceil(perLine / across), Math.ceil(lines / down)];
    canvas.width = columns * size;
    canvas.height = rows * size;
    const ends = endsOf(values);
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        const value = values[worstOf(x, y, grid)];
        if (value === undefined) continue;
        context.fillStyle = colourOf(value, ends);
        context.fillRect(x * size, y * size, size, size);
      }
    }
    const [x, y] = cellOf(marked, grid);
    context.strokeStyle = MARK;
    context.lineWidth = Math.max(2, size / 4);
    context.strokeRect(x * size, y * size, size, size);
  };
  const move = (columns: number, lines: number) => {
    if (!grid) return;
    const { perLine, across, down, values } = grid;
    const column = clamp((marked % perLine) + columns * across, 0, perLine - 1);
    const line = clamp(Math.floor(marked / perLine) + lines * down, 0, grid.lines - 1);
    choose(Math.min(line * perLine + column, values.length - 1));
  };
  const keys: Readonly<Record<string, () => void>> = {
    ArrowLeft: () => move(-1, 0),
    ArrowRight: () => move(1, 0),
    ArrowUp: () => move(0, -1),
    ArrowDown: () => move(0, 1),
    PageUp: () => move(0, -10),
    PageDown: () => move(0, 10),
    Home: () => move(Number.NEGATIVE_INFINITY, 0),
    End: () => move(Number.POSITIVE_INFINITY, 0),
  };
  frame.addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    act();
  });
  canvas.addEventListener("click", (event) => {
    if (!grid) return;
    const { left, top, width } = canvas.getBoundingClientRect();
    const scale = canvas.width / width / grid.size;
    const column = Math.floor((event.clientX - left) * scale);
    const line = Math.floor((event.clientY - top) * scale);
    choose(worstOf(column, line, grid));
  });
  return {
    draw(values, perLine) {
      const lines = Math.max(1, Math.ceil(values.length / perLine));
      const [across, down] = [Math.ceil(perLine / MOST_CELLS), Math.ceil(lines / MOST_CELLS)];
      const cells = Math.max(Math.ceil(perLine / across), Math.ceil(lines / down));
      const size = clamp(Math.floor(MOST_CELLS / cells), 1, LARGEST_CELL);
      grid = { values, perLine, lines, across, down, size };
      marked = 0;
      frame.setAttribute("aria-valuemax", String(values.length - 1));
      paint();
    },
    mark(unit, text) {
      marked = unit;
      frame.setAttribute("aria-valuenow", String(unit));
      frame.setAttribute("aria-valuetext", text);
      paint();
    },
  };
}

/** The smallest and the largest finite value. */
export interface Ends {
  readonly smallest: number;
  readonly largest: number;
}

export function endsOf(values: Float32Array): Ends {
  let [smallest, largest] = [Number.POSITIVE_INFINITY, 0];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    smallest = Math.min(smallest, value);
    largest = Math.max(largest, value);
  }
  return { smallest: Math.min(smallest, largest), largest };
}

function colourOf(value: number, { smallest, largest }: Ends): string {
  if (Number.isNaN(value)) return NOT_A_NUMBER;
  if (largest === smallest) return SCALE[0];
  const step = Math.floor(((value - smallest) / (largest - smallest)) * SCALE.length);
  return SCALE[clamp(step, 0, SCALE.length - 1)];
}

/** The colours with the values from which they hold. */
export function legendOf({ smallest, largest }: Ends): { colour: string; from: number }[] {
  const steps = largest === smallest ? 1 : SCALE.length;
  return SCALE.slice(0, steps).map((colour, i) => ({
    colour,
    from: smallest + ((largest - smallest) * i) / SCALE.length,
  }));
}

const clamp = (value: number, low: number, high: number): number => Math.max(low, Math.min(high, value));
