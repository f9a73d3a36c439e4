import { expect, test } from "vitest";
import { NO_FILTERS, applyFilters, countActive, outcomes, solvedBy, toggle, type Filters } from "./filters";
import { readIndex } from "./contract";
import { makeIndex, makeRaw } from "./fixture";
import { sortRows } from "./sort";

const index = makeIndex();
const find = (filters: Partial<Filters>, hits: Uint8Array | null = null) => [...applyFilters(index, { ...NO_FILTERS, ...filters }, hits).rows];
const all = Array.from({ length: 24 }, (_, row) => row);

test("no filter lists every row", () => expect(find({})).toEqual(all));

test.each<[string, Partial<Filters>, number[]]>([
  ["status", { chosen: { status: ["correct"] } }, [1, 6, 8, 12]],
  ["two values of one facet", { chosen: { status: ["correct", "no_answer"] } }, [1, 6, 8, 12, 23]],
  ["two facets", { chosen: { status: ["correct"], arm: ["think"] } }, [6, 12]],
  ["source, by the problem", { chosen: { source: ["hard"], checkpoint: ["base"], arm: ["panel"] } }, [16, 17]],
  ["tags", { chosen: { valid: ["not valid"] } }, [23]],
  ["stop reason", { chosen: { stop: ["length"] } }, [23]],
  ["a name that does not exist", { chosen: { arm: ["nobody"] } }, all],
  ["a range, without the unknown length of row 5", { min: 94, max: 97 }, [3, 4, 6]],
  ["a range open above", { min: 99 }, [0, 1]],
  ["one problem", { only: "p1", chosen: { arm: ["panel"] } }, [8, 9, 10, 11]],
])("filter by %s", (_, filters, rows) => expect(find(filters)).toEqual(rows));

test("the outcome of a problem counts draws of the chosen checkpoints only", () => {
  expect([...solvedBy(index, NO_FILTERS).solved]).toEqual([0b11, 0b11, 0]);
  expect([...solvedBy(index, { ...NO_FILTERS, chosen: { checkpoint: ["base"] } }).solved]).toEqual([0b01, 0b11, 0]);
  const base = { chosen: { checkpoint: ["base"] } };
  expect(find({ outcome: "some", ...base })).toEqual([0, 1, 4, 5]);
  expect(find({ outcome: "only:panel", ...base })).toEqual([0, 1, 4, 5]);
  expect(find({ outcome: "only:think", ...base })).toEqual([]);
  expect(find({ outcome: "all", ...base })).toEqual([8, 9, 12, 13]);
  expect(find({ outcome: "none", ...base })).toEqual([16, 17, 20, 21]);
  expect(find({ outcome: "some" })).toEqual([]);
});

test("an arm that never drew on a problem has no part in its outcome", () => {
  const raw = makeRaw();
  raw.arms.push({ name: "thinking", colour: "#000000", style: "steps" }); // of another study: no row is its own
  const wider = readIndex(raw);
  const rows = (outcome: string) => [...applyFilters(wider, { ...NO_FILTERS, outcome, chosen: { checkpoint: ["base"] } }, null).rows];
  expect(rows("all")).toEqual([8, 9, 12, 13]);
  expect(rows("some")).toEqual([0, 1, 4, 5]);
  expect(rows("none")).toEqual([16, 17, 20, 21]);
});

test("an arm filter does not change who solved a problem", () =>
  expect(find({ outcome: "all", chosen: { arm: ["panel"] } })).toEqual([0, 1, 2, 3, 8, 9, 10, 11]));

test("outcomes are named after the arms", () =>
  expect(outcomes(index).map(([key]) => key)).toEqual(["some", "all", "only:panel", "only:think", "none"]));

test("a facet counts the rows that pass all other filters, itself left out", () => {
  const { counts } = applyFilters(index, { ...NO_FILTERS, chosen: { status: ["correct"], arm: ["think"] } }, null);
  expect([...counts.arm]).toEqual([2, 2]); // of the correct rows
  expect([...counts.status]).toEqual([2, 9, 1]); // of think's rows
  expect([...counts.checkpoint]).toEqual([1, 1]); // of both: rows 12 and 6
});

test("search hits join in, and rows to search are those of all other filters", () => {
  const hits = new Uint8Array(24);
  hits[6] = hits[7] = 1;
  expect(find({ chosen: { status: ["correct"] } }, hits)).toEqual([6]);
  const { toSearch, counts } = applyFilters(index, { ...NO_FILTERS, chosen: { status: ["correct"] } }, hits);
  expect([...toSearch]).toEqual([1, 6, 8, 12]);
  expect([...counts.status]).toEqual([1, 1, 0]);
});

test("toggling twice changes nothing", () => {
  const once = toggle(NO_FILTERS, "arm", "panel");
  expect(countActive(once)).toBe(1);
  expect(countActive(toggle(once, "arm", "panel"))).toBe(0);
});

test("sorting keeps the order of equals, both ways, and puts an unknown length first", () => {
  const rows = Uint32Array.from([1, 5, 6, 8, 23]);
  expect([...sortRows(index, rows, { by: "problem", down: false })]).toEqual([1, 5, 6, 8, 23]);
  expect([...sortRows(index, rows, { by: "problem", down: true })]).toEqual([23, 8, 1, 5, 6]);
  expect([...sortRows(index, rows, { by: "tokens", down: false })]).toEqual([5, 23, 8, 6, 1]);
  expect([...sortRows(index, rows, { by: "status", down: false })]).toEqual([1, 6, 8, 5, 23]);
  expect([...sortRows(index, rows, { by: "sample", down: false })]).toEqual([6, 8, 1, 5, 23]);
});
