// The view and the address bar, held together both ways.
import type { Index } from "./contract";
import { firstView, openIn, other, type Open } from "./draws";
import { decodeHash, encode, type Address } from "./hash";

export interface State extends Omit<Address, "row" | "other" | "right" | "problem"> {
  open: Open;
}

/** The view that an address names, and what of it the data do not hold. */
export function fromHash(index: Index, hash: string): { state: State; missing: string } {
  const { row, other: beside, right, problem, ...rest } = decodeHash(hash);
  const first = firstView(index);
  const at = row === null ? -1 : index.id.indexOf(row);
  const state = (open: Open) => ({ ...rest, open });
  if (at >= 0) {
    const side = right ? "right" : "left";
    const across = beside === null ? -1 : index.id.indexOf(beside);
    const open = { left: -1, right: -1, side, [side]: at, [other(side)]: across } as Open;
    return { state: state(openIn(index, open, side, at)), missing: "" };
  }
  if (row !== null) return { state: state(first), missing: "The link names a rollout that these data do not hold." };
  if (problem !== null) {
    const p = index.problems.findIndex(({ id }) => id === problem);
    const start = index.starts[p];
    if (p < 0 || start === undefined || start === index.starts[p + 1]) {
      return { state: state(first), missing: "The link names a problem that these data do not hold." };
    }
    return { state: state(openIn(index, { left: -1, right: -1, side: "left" }, "left", start)), missing: "" };
  }
  return { state: state(first), missing: "" };
}

export function toHash(index: Index, { open, ...rest }: State): string {
  const id = (row: number) => index.id[row] ?? null;
  return encode({ ...rest, row: id(open[open.side]), other: id(open[other(open.side)]), right: open.side === "right", problem: null });
}

const PAUSE_MS = 1000;
let pushed = 0;

/** Write the view into the address; a new rollout is a new entry of the history, unless one rushes past many. */
export function writeHash(hash: string, isNew: boolean): void {
  if (location.hash === hash) return;
  const now = Date.now();
  const push = isNew && now - pushed > PAUSE_MS;
  if (push) pushed = now;
  try {
    history[push ? "pushState" : "replaceState"](null, "", hash || "#");
  } catch {
    // a page inside another, as in JupyterLab, may have no history of its own
  }
}
