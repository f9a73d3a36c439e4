// From numbers to places: linear and logarithmic axes, their ticks and how these are written.
import type { Axis } from "./data";

export type Scale = (value: number) => number;

/** Map the ends of an axis to two pixel positions; what lies outside goes outside. */
export function makeScale(axis: Pick<Axis, "low" | "high" | "log">, from: number, to: number): Scale {
  const turn = axis.log ? (value: number) => Math.log(Math.max(value, 1e-12)) : (value: number) => value;
  const low = turn(axis.low);
  const width = turn(axis.high) - low;
  return (value) => from + ((turn(value) - low) / width) * (to - from);
}

/** About `count` round numbers between the ends of an axis. */
export function makeTicks(axis: Pick<Axis, "low" | "high" | "log">, count: number): number[] {
  if (axis.log) {
    const steps = axis.high / axis.low > 50 ? [1, 3] : [1, 2, 5];
    const found: number[] = [];
    for (let power = Math.floor(Math.log10(axis.low)); power <= Math.ceil(Math.log10(axis.high)); power++) {
      for (const step of steps) {
        const value = Number((step * 10 ** power).toPrecision(12));
        if (value >= axis.low && value <= axis.high) found.push(value);
      }
    }
    const every = Math.ceil(found.length / Math.max(1, count));
    return found.filter((_, i) => i % every === 0);
  }
  const rough = (axis.high - axis.low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= rough * 0.999) ?? rough;
  const ticks: number[] = [];
  for (let i = Math.ceil(axis.low / step - 1e-9); i * step <= axis.high + step * 1e-9; i++) {
    ticks.push(Number((i * step).toPrecision(12)));
  }
  return ticks;
}

/** Write a tick: shares in percent, the rest as plain as it can be. */
export function writeTick(value: number, style: string): string {
  const number = (digits: number) => value.toLocaleString("en-US", { maximumFractionDigits: digits });
  if (style === "percent" || style === "points") {
    return (100 * value).toLocaleString("en-US", { maximumFractionDigits: 1 }) + (style === "percent" ? "%" : " pp");
  }
  return style === "ratio" ? `${number(2)}×` : number(Math.abs(value) < 1 ? 4 : 2);
}

/** Push heights apart until none is nearer to the next than `gap`; order is kept. */
export function spread(heights: readonly number[], gap: number, low: number, high: number): number[] {
  const order = heights.map((_, i) => i).sort((a, b) => (heights[a] ?? 0) - (heights[b] ?? 0));
  const placed = [...heights];
  let last = -Infinity;
  for (const i of order) {
    placed[i] = Math.max(heights[i] ?? 0, last + gap, low);
    last = placed[i] ?? last;
  }
  let next = high + gap;
  for (const i of order.reverse()) {
    placed[i] = Math.min(placed[i] ?? 0, next - gap);
    next = placed[i] ?? next;
  }
  return placed;
}
