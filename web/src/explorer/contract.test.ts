import { expect, test } from "vitest";
import { DataError, readIndex, readShard, shardOf } from "./contract";
import { makeIndex, makeRaw } from "./fixture";

test("columns become typed arrays, and what is missing becomes NaN", () => {
  const index = makeIndex();
  expect(index.n).toBe(24);
  expect([...index.starts]).toEqual([0, 8, 16, 24]);
  expect(index.tokens[5]).toBeNaN();
  expect(index.tokens[6]).toBe(94);
  expect(index.source[23]).toBe(1);
  expect([0, 9, 10, 23, 24].map((row) => shardOf(index, row))).toEqual([0, 0, 1, 1, -1]);
});

test("an empty index is an index", () => {
  const raw = makeRaw();
  for (const key of Object.keys(raw.columns)) raw.columns[key] = [];
  raw.shards = [];
  raw.problems = [];
  expect(readIndex(raw).n).toBe(0);
});

const broken: [string, (raw: ReturnType<typeof makeRaw>) => void, RegExp][] = [
  ["another format", (raw) => (raw.format = 2), /format 2.*reads format 1/],
  ["a short column", (raw) => raw.columns.tokens!.pop(), /tokens.*23 values, not 24/],
  ["no column", (raw) => delete raw.columns.seed, /columns.seed/],
  ["a place out of range", (raw) => (raw.columns.arm![3] = 2), /arm, row 3, is 2/],
  ["a negative place", (raw) => (raw.columns.status![3] = -1), /status, row 3/],
  ["a text for a place", (raw) => (raw.columns.run![3] = "0"), /run, row 3/],
  ["rows out of order", (raw) => raw.columns.problem!.reverse(), /not in the order/],
  ["a shard elsewhere", (raw) => (raw.shards[0] = { file: "https://example.org/x.js", first: 0, n: 10 }), /example.org/],
  ["a shard above", (raw) => (raw.shards[0] = { file: "data/../../x.js", first: 0, n: 10 }), /file name/],
  ["a gap between shards", (raw) => (raw.shards[1] = { file: "data/shard-001.js", first: 11, n: 13 }), /does not begin/],
  ["shards too short", (raw) => raw.shards.pop(), /hold 10 rollouts, the index 24/],
  ["a problem of no benchmark", (raw) => (raw.problems[0] = { id: "p0", benchmark: 7, source: 0 }), /benchmark of problem 0/],
];
test.each(broken)("an index with %s is refused in words", (_, damage, message) => {
  const raw = makeRaw();
  damage(raw);
  expect(() => readIndex(raw)).toThrow(DataError);
  expect(() => readIndex(raw)).toThrow(message);
});

test.each([[null], [[]], ["text"], [3]])("%j is no index", (given) => expect(() => readIndex(given)).toThrow(DataError));

test.each([["javascript:alert(1)"], ["//example.org/"], ["https://example.org/"], ["data:text/html,x"], [7]])(
  "a link back to %j is dropped",
  (back) => expect(readIndex({ ...makeRaw(), back }).back).toBeNull(),
);

test("a link back and a colour that are what they should be are kept", () => {
  const raw = makeRaw();
  raw.arms[1]!.colour = "red; background: url(x)";
  expect(readIndex(raw).back).toBe("../intro.html");
  expect(readIndex(raw).arms.map(({ colour }) => colour)).toEqual(["#0072B2", "#666666"]);
});

test("a shard is checked, and a row that is not as agreed is shown as its text", () => {
  const rows = [{ text: "a", segments: [["step", "", "a"]], answer: "1", near: [[3, 0.5]], far: [] }, { text: "b", segments: 7, near: "no" }];
  const read = readShard({ rows }, 2);
  expect(read[0]!.near).toEqual([[3, 0.5]]);
  expect(read[1]).toEqual({ text: "b", segments: [], answer: null, near: [], far: [] });
  expect(() => readShard({ rows }, 3)).toThrow(/2 rollouts, not 3/);
});
