/** Small plots as SVG text. No script, no outside resource: the strings can be put into any page. */

export interface Point {
  readonly x: number;
  readonly y: number;
  readonly label: string;
  readonly color: string;
}

export interface Axis {
  readonly label: string;
  /** Plot log10 of the values. */
  readonly log?: boolean;
  /** Values are counts: no ticks between whole numbers. */
  readonly whole?: boolean;
}

const WIDTH = 720;
const HEIGHT = 360;
const LEFT = 70;
const RIGHT = 20;
const TOP = 16;
const BOTTOM = 46;

/** Eight colours that stay apart under the common colour vision deficiencies (Okabe & Ito 2008). */
export const COLORS = [
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#e69f00",
  "#56b4e9",
  "#000000",
  "#999900",
];

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** Labelled points: one dot and its label each. */
export function scatter(title: string, points: readonly Point[], x: Axis, y: Axis): string {
  const scaleX = createScale(
    points.map((p) => p.x),
    x,
    LEFT,
    WIDTH - RIGHT,
  );
  const scaleY = createScale(
    points.map((p) => p.y),
    y,
    HEIGHT - BOTTOM,
    TOP,
  );
  const dots = points.map((p) => {
    const [cx, cy] = [scaleX.at(p.x).toFixed(1), scaleY.at(p.y).toFixed(1)];
    return (
      `<circle cx="${cx}" cy="${cy}" r="5" fill="${p.color}"><title>${escapeHtml(p.label)}: ` +
      `${format(p.x)}, ${format(p.y)}</title></circle>` +
      `<text x="${cx}" y="${Number(cy) - 9}" text-anchor="middle">${escapeHtml(p.label)}</text>`
    );
  });
  return frame(title, x, y, scaleX, scaleY, dots.join(""));
}

/** One polyline per series over the same x positions 0, 1, 2 … (tensors in file order, say). */
export function lines(
  title: string,
  series: readonly {
    readonly name: string;
    readonly values: readonly number[];
    readonly labels: readonly string[];
  }[],
  x: Axis,
  y: Axis,
): string {
  const all = series.flatMap((s) => s.values);
  const length = Math.max(2, ...series.map((s) => s.values.length));
  const scaleX = createScale([0, length - 1], { ...x, whole: true }, LEFT, WIDTH - RIGHT);
  const scaleY = createScale(all, y, HEIGHT - BOTTOM, TOP);
  const body = series.map((s, index) => {
    const color = COLORS[index % COLORS.length];
    const places = s.values.map((v, i) => `${scaleX.at(i).toFixed(1)},${scaleY.at(v).toFixed(1)}`);
    const dots = s.values.map(
      (v, i) =>
        `<circle cx="${scaleX.at(i).toFixed(1)}" cy="${scaleY.at(v).toFixed(1)}" r="2.5" fill="${color}">` +
        `<title>${escapeHtml(`${s.name} ${s.labels[i]}: ${format(v)}`)}</title></circle>`,
    );
    return `<polyline points="${places.join(" ")}" fill="none" stroke="${color}"/>${dots.join("")}`;
  });
  const legend = series.map(
    (s, index) => `<tspan fill="${COLORS[index % COLORS.length]}" dx="10">■ ${escapeHtml(s.name)}</tspan>`,
  );
  body.push(`<text x="${LEFT}" y="${TOP - 4}">${legend.join("")}</text>`);
  return frame(title, x, y, scaleX, scaleY, body.join(""));
}

interface Scale {
  at(value: number): number;
  readonly ticks: readonly number[];
}

function createScale(values: readonly number[], axis: Axis, from: number, to: number): Scale {
  const transform = axis.log ? Math.log10 : (v: number) => v;
  const finite = values.filter((v) => Number.isFinite(transform(v)));
  let low = finite.length === 0 ? 0 : Math.min(...finite.map(transform));
  let high = finite.length === 0 ? 0 : Math.max(...finite.map(transform));
  if (!(high > low)) [low, high] = [low - 1, high + 1];
  const margin = (high - low) * 0.06;
  // What is infinite, such as the logarithm of 0, lies on the frame.
  const place = (v: number) => Math.min(high + margin, Math.max(low - margin, transform(v)));
  const at = (v: number) => from + ((place(v) - low + margin) / (high - low + 2 * margin)) * (to - from);
  const ticks = [0, 1, 2, 3, 4].map((i) => {
    const t = low + ((high - low) * i) / 4;
    return axis.log ? 10 ** t : axis.whole ? Math.round(t) : t;
  });
  return { at, ticks: [...new Set(ticks)] };
}

function frame(title: string, x: Axis, y: Axis, scaleX: Scale, scaleY: Scale, body: string): string {
  const gridX = scaleX.ticks.map((v) => {
    const at = scaleX.at(v).toFixed(1);
    return `<path d="M${at} ${TOP}V${HEIGHT - BOTTOM}" stroke="#ddd"/><text x="${at}" y="${HEIGHT - BOTTOM + 16}" text-anchor="middle">${format(v)}</text>`;
  });
  const gridY = scaleY.ticks.map((v) => {
    const at = scaleY.at(v).toFixed(1);
    return `<path d="M${LEFT} ${at}H${WIDTH - RIGHT}" stroke="#ddd"/><text x="${LEFT - 6}" y="${at}" text-anchor="end" dominant-baseline="middle">${format(v)}</text>`;
  });
  return (
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(title)}" font-family="system-ui" font-size="11">` +
    `<title>${escapeHtml(title)}</title>${gridX.join("")}${gridY.join("")}${body}` +
    `<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 8}" text-anchor="middle">${escapeHtml(x.label)}</text>` +
    `<text transform="translate(14 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">${escapeHtml(y.label)}</text></svg>`
  );
}

function format(v: number): string {
  if (!Number.isFinite(v)) return String(v);
  const magnitude = Math.abs(v);
  return magnitude >= 100 || Number.isInteger(v)
    ? v.toFixed(0)
    : magnitude >= 0.01
      ? v.toPrecision(3)
      : v.toExponential(1);
}
