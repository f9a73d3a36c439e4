// Which draws stand side by side. A pane has a slot (a study, run, arm and checkpoint); the draws of one problem
// from one slot are a group.
import type { Index } from "./contract";

export type Side = "left" | "right";
export const other = (side: Side): Side => (side === "left" ? "right" : "left");

export interface Group {
  key: string;
  arm: number;
  rows: number[];
  label: string;
}

export const slotOf = (index: Index, row: number): number[] =>
  [index.arm, index.checkpoint, index.study, index.run].map((column) => column[row]!);

/** The groups of a problem in the order arm, study, checkpoint, run. */
export function groupsOf(index: Index, problem: number): Group[] {
  const found = new Map<string, number[]>();
  for (let row = index.starts[problem]!; row < index.starts[problem + 1]!; row++) {
    const key = slotOf(index, row).join();
    const rows = found.get(key);
    if (rows) rows.push(row);
    else found.set(key, [row]);
  }
  const order = ([row]: number[]) => [index.arm, index.study, index.checkpoint, index.run].map((column) => column[row!]!);
  const sorted = [...found.values()].sort((a, b) => {
    const [first, second] = [order(a), order(b)];
    const at = first.findIndex((value, i) => value !== second[i]);
    return at < 0 ? 0 : first[at]! - second[at]!;
  });
  const studies = new Set(sorted.map(([row]) => index.study[row!])).size > 1;
  const runs = (row: number) =>
    sorted.filter(([twin]) => [index.arm, index.checkpoint, index.study].every((column) => column[twin!] === column[row])).length > 1;
  return sorted.map((rows) => {
    const row = rows[0]!;
    const parts = [index.arms[index.arm[row]!]!.name, index.checkpoints[index.checkpoint[row]!]!];
    if (studies) parts.push(index.studies[index.study[row]!]!);
    if (runs(row)) parts.push(`run ${index.runs[index.run[row]!]!.slice(0, 8)}`);
    rows.sort((a, b) => index.sample[a]! - index.sample[b]!);
    return { key: slotOf(index, row).join(), arm: index.arm[row]!, rows, label: parts.join(" · ") };
  });
}

/** How much two rows' slots have in common: the arm says most, then the checkpoint, the study, the run. */
function likeness(index: Index, a: number, b: number): number {
  const [first, second] = [slotOf(index, a), slotOf(index, b)];
  return [8, 4, 2, 1].reduce((sum, weight, i) => sum + (first[i] === second[i] ? weight : 0), 0);
}

/** The draw of a problem nearest to what `like` is: most alike slot, then the same sample, else the first. */
export function drawLike(index: Index, problem: number, like: number, not = -1): number {
  let [best, score] = [-1, -1];
  for (let row = index.starts[problem]!; row < index.starts[problem + 1]!; row++) {
    if (row === not) continue;
    const here = 2 * likeness(index, row, like) + (index.sample[row] === index.sample[like] ? 1 : 0);
    if (here > score) [best, score] = [row, here];
  }
  return best;
}

/** The draw to set beside `row`: of another arm if there is one, else of another slot, else another draw. */
export function counterpart(index: Index, row: number): number {
  const problem = index.problem[row]!;
  let [best, score] = [-1, -1];
  for (let twin = index.starts[problem]!; twin < index.starts[problem + 1]!; twin++) {
    if (twin === row) continue;
    const [mine, theirs] = [slotOf(index, row), slotOf(index, twin)];
    const here =
      (mine[0] !== theirs[0] ? 32 : 0) +
      (mine[1] === theirs[1] ? 8 : 0) +
      (mine[2] === theirs[2] ? 4 : 0) +
      (index.sample[row] === index.sample[twin] ? 2 : 0) +
      (mine[3] === theirs[3] ? 1 : 0);
    if (here > score) [best, score] = [twin, here];
  }
  return best;
}

export interface Open {
  left: number;
  right: number;
  side: Side;
}

/** Open a rollout from the list: in the pane whose slot is most like it, with the other pane on the same problem. */
export function openRow(index: Index, open: Open, row: number): Open {
  const score = (side: Side) => (open[side] < 0 ? -1 : likeness(index, open[side], row));
  const { side: here } = open;
  const side = score(other(here)) > score(here) ? other(here) : here;
  return openIn(index, open, side, row);
}

/** Open a rollout in one pane; the other keeps its draw if it is of the same problem. */
export function openIn(index: Index, open: Open, side: Side, row: number): Open {
  const across = open[other(side)];
  const problem = index.problem[row]!;
  let beside = across;
  if (across < 0 || index.problem[across] !== problem || across === row) {
    beside = across < 0 || across === row ? counterpart(index, row) : drawLike(index, problem, across, row);
  }
  return { ...open, [side]: row, [other(side)]: beside, side } as Open;
}

/** The next draw (or, with -1, the one before) of the same group, round and round. */
export function cycle(index: Index, row: number, by: 1 | -1): number {
  const group = groupsOf(index, index.problem[row]!).find(({ rows }) => rows.includes(row))!.rows;
  return group[(group.indexOf(row) + by + group.length) % group.length]!;
}

/** What to show first: a problem on which the arms disagree at the base checkpoint, right beside wrong. */
export function firstView(index: Index): Open {
  if (index.n === 0) return { left: -1, right: -1, side: "left" };
  const base = Math.max(index.checkpoints.indexOf("base"), 0);
  const correct = index.statuses.indexOf("correct");
  let chosen: [number, number] | null = null;
  for (let p = 0; p < index.problems.length && !chosen; p++) {
    const right: number[] = [];
    const wrong: number[] = [];
    for (let row = index.starts[p]!; row < index.starts[p + 1]!; row++) {
      if (index.checkpoint[row] !== base) continue;
      if (index.status[row] === correct) right[index.arm[row]!] ??= row;
      else wrong[index.arm[row]!] ??= row;
    }
    const solver = right.findIndex((row) => row !== undefined);
    const loser = wrong.findIndex((row, arm) => row !== undefined && right[arm] === undefined);
    if (solver >= 0 && loser >= 0) chosen = [right[solver]!, wrong[loser]!];
  }
  if (!chosen) return openIn(index, { left: -1, right: -1, side: "left" }, "left", 0);
  const [left, right] = chosen.sort((a, b) => index.arm[a]! - index.arm[b]!);
  return { left, right, side: "left" };
}

/** Where to go from `row` in the list: `by` rows on, or to the next problem. -1 if the list ends there. */
export function step(index: Index, listed: Uint32Array, row: number, by: 1 | -1, problems = false): number {
  let at = listed.indexOf(row);
  if (at < 0) {
    // The open rollout is not listed: enter the list at the nearest one in the order of the index.
    at = listed.findIndex((candidate) => candidate > row);
    if (at < 0) return listed[by > 0 ? 0 : listed.length - 1] ?? -1;
    return listed[by > 0 ? at : Math.max(at - 1, 0)]!;
  }
  for (at += by; problems && at >= 0 && at < listed.length && index.problem[listed[at]!] === index.problem[row]; ) at += by;
  return listed[at] ?? -1;
}
