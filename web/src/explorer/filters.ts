// Which rollouts are listed. A facet is a column with a few named values, of which none or several are chosen; a
// row passes a facet if nothing is chosen or its value is. One pass over the rows also counts, for every value of a
// facet, the rows that choosing it would show: those that fail no other filter.
import type { Index } from "./contract";

export const FACETS = ["arm", "study", "benchmark", "source", "checkpoint", "run", "status", "stop", "valid"] as const;
export type Facet = (typeof FACETS)[number];

/** `all`: every arm solves the problem; `some`: some arm does and some does not; `none`; `only:<arm>`. */
export type Outcome = string;

export interface Filters {
  /** Names of the chosen values. */
  chosen: Partial<Record<Facet, string[]>>;
  outcome: Outcome | null;
  min: number | null;
  max: number | null;
  /** The id of the only problem to list. */
  only: string | null;
  search: string;
}

export const NO_FILTERS: Filters = { chosen: {}, outcome: null, min: null, max: null, only: null, search: "" };

export const VALID = ["not valid", "valid"];

export function facetValues(index: Index, facet: Facet): string[] {
  switch (facet) {
    case "arm": return index.arms.map((arm) => arm.name);
    case "study": return index.studies;
    case "benchmark": return index.benchmarks;
    case "source": return index.sources;
    case "checkpoint": return index.checkpoints;
    case "run": return index.runs;
    case "status": return index.statuses;
    case "stop": return index.stops;
    case "valid": return VALID;
  }
}

/** For each value of a facet 1 if it is wanted; null if nothing is chosen, or nothing that exists. */
function wanted(index: Index, facet: Facet, filters: Filters): Uint8Array | null {
  const names = filters.chosen[facet];
  if (!names?.length) return null;
  const marks = Uint8Array.from(facetValues(index, facet), (name) => (names.includes(name) ? 1 : 0));
  return marks.includes(1) ? marks : null;
}

/**
 * For each problem a bit for every arm that drew on it, graded, and one for every arm that solves it by any draw;
 * both within the chosen studies and checkpoints. Arms of another study do not count where they never drew.
 */
export function solvedBy(index: Index, filters: Filters): { drew: Uint32Array; solved: Uint32Array } {
  const [drew, solved] = [new Uint32Array(index.problems.length), new Uint32Array(index.problems.length)];
  const [correct, ungraded] = [index.statuses.indexOf("correct"), index.statuses.indexOf("ungraded")];
  const [studies, checkpoints] = [wanted(index, "study", filters), wanted(index, "checkpoint", filters)];
  for (let row = 0; row < index.n; row++) {
    if (index.status[row] === ungraded) continue;
    if (studies && !studies[index.study[row]!]) continue;
    if (checkpoints && !checkpoints[index.checkpoint[row]!]) continue;
    drew[index.problem[row]!]! |= 1 << index.arm[row]!;
    if (index.status[row] === correct) solved[index.problem[row]!]! |= 1 << index.arm[row]!;
  }
  return { drew, solved };
}

/** The outcomes to choose from, with what they are called; `null` as key is no filter. */
export function outcomes(index: Index): [Outcome, string][] {
  const arms = index.arms.map((arm) => arm.name);
  if (arms.length < 2) return [["all", "solved"], ["none", "not solved"]];
  const both = arms.length === 2;
  return [
    ["some", both ? "exactly one arm solves it" : "some arms that drew on it solve it, some do not"],
    ["all", both ? "both arms solve it" : "every arm that drew on it solves it"],
    ...arms.map((name): [Outcome, string] => [`only:${name}`, `only ${name} solves it`]),
    ["none", both ? "neither arm solves it" : "no arm solves it"],
  ];
}

/** Whether the arms that drew on a problem and those that solve it, as bits, make an outcome; null if there is none such. */
export function hasOutcome(index: Index, outcome: Outcome): ((drew: number, solved: number) => boolean) | null {
  if (outcome === "all") return (drew, solved) => drew !== 0 && solved === drew;
  if (outcome === "none") return (drew, solved) => drew !== 0 && solved === 0;
  if (outcome === "some") return (drew, solved) => solved !== 0 && solved !== drew;
  const arm = index.arms.findIndex(({ name }) => outcome === `only:${name}`);
  return arm < 0 ? null : (drew, solved) => solved === 1 << arm && solved !== drew;
}

export interface Found {
  /** Rows that pass every filter, ascending. */
  rows: Uint32Array;
  /** Rows that pass every filter but the text search: those that a search has to read. */
  toSearch: Uint32Array;
  /** For every facet and value, the rows that pass all other filters. */
  counts: Record<Facet, Uint32Array>;
}

/** Apply the filters. `hits` holds 1 for every row in which the text search found something; null without one. */
export function applyFilters(index: Index, filters: Filters, hits: Uint8Array | null): Found {
  const columns = FACETS.map((facet) => index[facet]);
  const marks = FACETS.map((facet) => wanted(index, facet, filters));
  const counts = FACETS.map((facet) => new Uint32Array(facetValues(index, facet).length));
  const active = marks.flatMap((mark, i) => (mark ? [i] : []));
  const outcome = filters.outcome === null ? null : hasOutcome(index, filters.outcome);
  const arms = outcome && solvedBy(index, filters);
  const only = filters.only === null ? -1 : index.problems.findIndex(({ id }) => id === filters.only);
  const ranged = filters.min !== null || filters.max !== null;
  const [min, max] = [filters.min ?? 0, filters.max ?? Infinity];
  const [rows, toSearch] = [new Uint32Array(index.n), new Uint32Array(index.n)];
  let [nRows, nToSearch] = [0, 0];
  for (let p = 0; p < index.problems.length; p++) {
    if (only >= 0 && p !== only) continue;
    if (outcome && !outcome(arms!.drew[p]!, arms!.solved[p]!)) continue;
    for (let row = index.starts[p]!; row < index.starts[p + 1]!; row++) {
      const tokens = index.tokens[row]!;
      if (ranged && !(tokens >= min && tokens <= max)) continue; // an unknown length is in no range
      let failed = -1; // the one facet that the row fails, -2 if several
      for (const i of active) {
        if (!marks[i]![columns[i]![row]!]) failed = failed === -1 ? i : -2;
      }
      if (failed === -1) toSearch[nToSearch++] = row;
      if (failed === -2 || (hits && !hits[row])) continue;
      if (failed === -1) rows[nRows++] = row;
      for (let i = 0; i < columns.length; i++) {
        if (failed === -1 || failed === i) counts[i]![columns[i]![row]!]!++;
      }
    }
  }
  return {
    rows: rows.slice(0, nRows),
    toSearch: toSearch.slice(0, nToSearch),
    counts: Object.fromEntries(FACETS.map((facet, i) => [facet, counts[i]!])) as Record<Facet, Uint32Array>,
  };
}

/** How many filters are set; the search counts apart, it stands in sight. */
export function countActive(filters: Filters): number {
  const chosen = FACETS.filter((facet) => filters.chosen[facet]?.length).length;
  const rest = [filters.outcome, filters.min, filters.max, filters.only].filter((value) => value !== null).length;
  return chosen + rest;
}

export function toggle(filters: Filters, facet: Facet, name: string): Filters {
  const before = filters.chosen[facet] ?? [];
  const after = before.includes(name) ? before.filter((other) => other !== name) : [...before, name];
  return { ...filters, chosen: { ...filters.chosen, [facet]: after } };
}
