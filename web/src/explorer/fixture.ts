// A small index for the tests: two arms, two checkpoints, three problems, two draws each.
import { readIndex, type Index } from "./contract";

export const RAW = {
  format: 1, title: "Test", back: "../intro.html", note: "",
  arms: [{ name: "panel", colour: "#0072B2", style: "voices" }, { name: "think", colour: "#D55E00", style: "steps" }],
  studies: ["s"], benchmarks: ["b"], sources: ["easy", "hard"], checkpoints: ["base", "step 5"], runs: ["r1"],
  statuses: ["correct", "wrong", "no_answer"], stops: ["stop", "length"],
  problems: [
    { id: "p0", benchmark: 0, source: 0, question: "1 + 1?", gold: "2" },
    { id: "p1", benchmark: 0, source: 0, question: null, gold: null },
    { id: "p2", benchmark: 0, source: 1, question: "$x$?", gold: "3" },
  ] as unknown[],
  map: null as unknown,
  shards: [{ file: "data/shard-000.js", first: 0, n: 10 }, { file: "data/shard-001.js", first: 10, n: 14 }] as unknown[],
  columns: {} as Record<string, unknown[]>,
};

// Rows: problem, arm, checkpoint, sample, from the outside in. Panel solves p0, both solve p1, nobody p2;
// at step 5 think solves p0 too.
const N = 24;
const rows = Array.from({ length: N }, (_, row) => row);
const at = (row: number) => ({ problem: row >> 3, arm: (row >> 2) & 1, checkpoint: (row >> 1) & 1, sample: row & 1 });
const correct = new Set([1, 6, 8, 12]);
RAW.columns = {
  id: rows.map((row) => `id${row}`),
  ...Object.fromEntries((["problem", "arm", "checkpoint", "sample"] as const).map((key) => [key, rows.map((row) => at(row)[key])])),
  study: rows.map(() => 0), run: rows.map(() => 0), stop: rows.map((row) => (row === 23 ? 1 : 0)),
  status: rows.map((row) => (correct.has(row) ? 0 : row === 23 ? 2 : 1)),
  tokens: rows.map((row) => (row === 5 ? null : 100 - row)), chars: rows.map(() => 10), valid: rows.map((row) => (row === 23 ? 0 : 1)),
  seed: rows.map(() => null), temperature: rows.map(() => 1), max_tokens: rows.map(() => null),
  predicted: rows.map(() => "2"), x: rows.map(() => null), y: rows.map(() => null),
};

export const makeRaw = () => structuredClone(RAW);
export const makeIndex = (): Index => readIndex(makeRaw());
