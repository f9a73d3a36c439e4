import { expect, test } from "vitest";
import { decode } from "./decode";
import { makeIndex } from "./fixture";
import { toLine } from "./jsonl";
import { Lru } from "./lru";
import { makeMatcher } from "./pieces";
import { makeFile, newSearch, partsOf, runSearch, type Progress } from "./reading";
import { fit, nearest, placed, toX, toY, towards, zoom } from "./scatter";
import { Shards } from "./shards";

const index = makeIndex();

async function gzip(text: string): Promise<string> {
  const packed = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  return btoa(String.fromCharCode(...new Uint8Array(await new Response(packed).arrayBuffer())));
}
const part = (first: number, n: number) =>
  gzip(JSON.stringify({ rows: Array.from({ length: n }, (_, i) => ({ text: `text ${first + i}.`, segments: [], answer: null, near: [], far: [] })) }));
const [FIRST, SECOND, SHORT, NO_JSON, LONE] = await Promise.all([part(0, 10), part(10, 14), part(0, 9), gzip("{"), gzip('{"a":"\\ud800 \\u0000"}')]);

/** Shards whose scripts hand over `parts` when they are loaded, with a record of what was. */
function makeShards(parts: (string | null)[] = [FIRST, SECOND]) {
  const loaded: string[] = [];
  const shards: Shards = new Shards(index, async (file) => {
    loaded.push(file);
    const at = Number(/\d+/.exec(file)![0]);
    if (parts[at] === null) throw new Error("no such file");
    if (parts[at]) shards.receive(at, parts[at]);
  });
  return { shards, loaded };
}
const quiet = () => undefined;
const never = new AbortController().signal;

test("decoding gives back what was packed, lone surrogates too", async () =>
  expect(await decode(LONE)).toEqual({ a: "\ud800 \0" }));

test.each([
  ["no base64!", /not base64/],
  [FIRST.slice(0, -20), /cut short/],
  [btoa("plain"), /does not unpack/],
  [NO_JSON, /not JSON/],
])("a broken part is refused in words (%#)", async (packed, message) => expect(decode(packed)).rejects.toThrow(message));

test("a part is loaded once, asked for twice at a time or later", async () => {
  const { shards, loaded } = makeShards();
  expect(shards.peek(3)).toBeUndefined();
  const [a, b] = await Promise.all([shards.rollout(3), shards.rollout(4)]);
  expect([a.text, b.text]).toEqual(["text 3.", "text 4."]);
  expect(shards.peek(9)?.text).toBe("text 9.");
  expect(loaded).toEqual(["data/shard-000.js"]);
});

test("a part that lies in the page needs no script, ever", async () => {
  const { shards, loaded } = makeShards([null, null]);
  shards.receive(1, SECOND);
  expect((await shards.rollout(10)).text).toBe("text 10.");
  expect(loaded).toEqual([]);
});

test.each([
  [null, /rollouts 1 to 10 \(data\/shard-000.js\).*no such file/],
  ["", /holds no data/],
  [SHORT, /9 rollouts, not 10/],
])("a part that cannot be read says which and why, and can be asked for again (%#)", async (broken, message) => {
  const parts = [broken, SECOND];
  const { shards } = makeShards(parts);
  await expect(shards.rollout(0)).rejects.toThrow(message);
  expect((await shards.rollout(12)).text).toBe("text 12.");
  parts[0] = FIRST;
  expect((await shards.rollout(0)).text).toBe("text 0.");
});

test("a search reads the parts that hold the rows, and no part twice", async () => {
  const { shards, loaded } = makeShards();
  const search = newSearch(index, "TEXT 2");
  const matcher = makeMatcher(search.text)!;
  const seen: Progress[] = [];
  await runSearch(shards, search, Uint32Array.from([21]), matcher, (now) => seen.push({ ...now }), never);
  expect(loaded).toEqual(["data/shard-001.js"]);
  expect([...search.hits].flatMap((hit, row) => (hit ? [row] : []))).toEqual([20, 21, 22, 23]);
  expect(seen.at(-1)).toEqual({ done: 1, of: 1, failed: [] });
  await runSearch(shards, search, Uint32Array.from([2, 21]), matcher, quiet, never);
  expect(loaded).toEqual(["data/shard-001.js", "data/shard-000.js"]);
  expect(search.hits[2]).toBe(1);
});

test("a search that is cancelled stops, and one that meets a broken part goes on", async () => {
  const { shards } = makeShards([null, SECOND]);
  const control = new AbortController();
  const search = newSearch(index, "text");
  await runSearch(shards, search, Uint32Array.from([0, 20]), /text/gi, () => control.abort(), control.signal);
  expect(search.hits.some(Boolean)).toBe(false);
  let last: Progress | undefined;
  await runSearch(shards, search, Uint32Array.from([0, 20]), /text/gi, (now) => (last = now), never);
  expect(last).toEqual({ done: 2, of: 2, failed: [0] });
  expect(search.hits.reduce((sum, hit) => sum + hit, 0)).toBe(14);
});

test("the export holds every row once, in order, and can be read back", async () => {
  const { shards } = makeShards();
  const file = await makeFile(shards, Uint32Array.from([3, 11, 23]), quiet, never);
  const lines = (await file.text()).trimEnd().split("\n").map((line) => JSON.parse(line));
  expect(lines.map(({ id, completion }) => [id, completion])).toEqual([["id3", "text 3."], ["id11", "text 11."], ["id23", "text 23."]]);
  expect(lines[2]).toMatchObject({ arm: "think", checkpoint: "step 5", problem_id: "p2", status: "no_answer", tag_valid: false, seed: null, gold: "3" });
});

test("a lone surrogate leaves as an escape, and a line is one line", () => {
  const line = toLine(index, 5, { text: "\ud800\n\u2028", segments: [], answer: null, near: [], far: [] });
  expect(line).toContain("\\ud800\\n");
  expect(line.trimEnd()).not.toContain("\n");
  expect(JSON.parse(line)).toMatchObject({ completion: "\ud800\n\u2028", completion_tokens: null });
});

test("rows are sorted into their parts", () =>
  expect(partsOf(index, Uint32Array.from([12, 1, 11]))).toEqual(new Map([[0, [1]], [1, [12, 11]]])));

test("the cache keeps what was used last", () => {
  const cache = new Lru<string, number>(2);
  cache.set("a", 1);
  cache.set("b", 2);
  cache.get("a");
  cache.set("c", 3);
  expect([cache.get("a"), cache.get("b"), cache.get("c"), cache.size]).toEqual([1, undefined, 3, 2]);
});

test("the map fits all points, keeps one scale, and finds what is under the pointer", () => {
  const there = { ...index, x: new Float64Array(24).fill(Number.NaN), y: new Float64Array(24).fill(Number.NaN) };
  [[1, 0, 0], [2, 4, 1], [3, 2, 2]].forEach(([row, x, y]) => ((there.x[row!] = x!), (there.y[row!] = y!)));
  const rows = placed(there);
  expect([...rows]).toEqual([1, 2, 3]);
  const view = fit(there, rows, 232, 132);
  expect(view.scale).toBe(50);
  expect([toX(there, view, 1), toY(there, view, 1)]).toEqual([16, 116]);
  expect([toX(there, view, 2), toY(there, view, 2)]).toEqual([216, 66]);
  expect(nearest(there, rows, view, 118, 20, 12)).toBe(3);
  expect(nearest(there, rows, view, 60, 60, 12)).toBe(-1);
  expect(towards(there, rows, view, 1, [1, 0])).toBe(2);
  expect(towards(there, rows, view, 1, [-1, 0])).toBe(-1);
  const near = zoom(view, 2, 16, 116);
  expect([toX(there, near, 1), toY(there, near, 1), toX(there, near, 2)]).toEqual([16, 116, 416]);
  expect(fit(there, new Uint32Array(0), 100, 100).scale).toBe(1);
});
