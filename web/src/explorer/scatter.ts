// The geometry of the map: from the coordinates of draws to pixels and back. One scale for both directions, since
// distances in the plane are what the map is about.
import type { Index } from "./contract";

export interface View {
  /** Pixels per unit, and where the origin of the coordinates lies, in pixels. */
  scale: number;
  left: number;
  top: number;
}

/** Rows that have a place. */
export function placed(index: Index): Uint32Array {
  const rows = new Uint32Array(index.n);
  let n = 0;
  for (let row = 0; row < index.n; row++) {
    if (Number.isFinite(index.x[row]!) && Number.isFinite(index.y[row]!)) rows[n++] = row;
  }
  return rows.slice(0, n);
}

/** The view that holds all rows, with a margin. */
export function fit(index: Index, rows: Uint32Array, width: number, height: number): View {
  const margin = 16;
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const row of rows) {
    x0 = Math.min(x0, index.x[row]!);
    x1 = Math.max(x1, index.x[row]!);
    y0 = Math.min(y0, index.y[row]!);
    y1 = Math.max(y1, index.y[row]!);
  }
  if (!(x1 >= x0)) return { scale: 1, left: width / 2, top: height / 2 };
  const room = Math.min((width - 2 * margin) / Math.max(x1 - x0, 1e-9), (height - 2 * margin) / Math.max(y1 - y0, 1e-9));
  const scale = x1 === x0 && y1 === y0 ? 1 : Math.max(room, 1e-9);
  return { scale, left: width / 2 - (scale * (x0 + x1)) / 2, top: height / 2 + (scale * (y0 + y1)) / 2 };
}

export const toX = (index: Index, view: View, row: number): number => view.left + view.scale * index.x[row]!;
export const toY = (index: Index, view: View, row: number): number => view.top - view.scale * index.y[row]!;

/** Zoom by a factor with the pixel (x, y) held in place. */
export function zoom(view: View, factor: number, x: number, y: number): View {
  return { scale: view.scale * factor, left: x - factor * (x - view.left), top: y - factor * (y - view.top) };
}

/** The row nearest to a pixel and within `reach` of it, or -1. */
export function nearest(index: Index, rows: Uint32Array, view: View, x: number, y: number, reach: number): number {
  let [best, least] = [-1, reach * reach];
  for (const row of rows) {
    const [dx, dy] = [toX(index, view, row) - x, toY(index, view, row) - y];
    const here = dx * dx + dy * dy;
    if (here <= least) [best, least] = [row, here];
  }
  return best;
}

/** The next row in a direction, for arrow keys: near, and rather ahead than aside. -1 at the edge. */
export function towards(index: Index, rows: Uint32Array, view: View, from: number, [dx, dy]: [number, number]): number {
  const [x, y] = [toX(index, view, from), toY(index, view, from)];
  let [best, least] = [-1, Infinity];
  for (const row of rows) {
    const [right, down] = [toX(index, view, row) - x, toY(index, view, row) - y];
    const ahead = right * dx + down * dy;
    const aside = Math.abs(right * dy) + Math.abs(down * dx);
    if (ahead < 0.5 || aside > 2 * ahead) continue;
    const here = ahead + 2 * aside;
    if (here < least) [best, least] = [row, here];
  }
  return best;
}
