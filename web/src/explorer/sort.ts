import type { Index } from "./contract";

export const SORTS = ["problem", "tokens", "status", "checkpoint", "sample"] as const;
export type Sort = { by: (typeof SORTS)[number]; down: boolean };

/** Rows (given ascending) in the order asked for; equal ones stay in the order of the index. */
export function sortRows(index: Index, rows: Uint32Array, sort: Sort): Uint32Array {
  const column = index[sort.by];
  // A key and its row share one double, so that the engine's own sort of numbers does the work: 2^53 leaves room.
  const keys = new Float64Array(rows.length);
  let most = 0;
  for (const row of rows) most = Math.max(most, column[row] || 0);
  // An unknown length (NaN) counts as none.
  rows.forEach((row, i) => (keys[i] = (sort.down ? most - (column[row] || 0) : column[row] || 0) * index.n + row));
  keys.sort();
  return Uint32Array.from(keys, (key) => key % index.n);
}
