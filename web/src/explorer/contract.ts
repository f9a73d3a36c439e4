// The index as the exporter writes it (format 1), checked once and turned into typed arrays. One entry of a column
// is one rollout; rows are sorted by problem, so that a problem is a range of rows.

export const FORMAT = 1;

export class DataError extends Error {}

export interface Arm {
  name: string;
  colour: string;
  style: "voices" | "steps";
}

export interface Problem {
  id: string;
  benchmark: number;
  source: number;
  question: string | null;
  gold: string | null;
}

export interface ShardPlace {
  file: string;
  first: number;
  n: number;
}

type Names = "studies" | "benchmarks" | "sources" | "checkpoints" | "runs" | "statuses" | "stops";

export interface Index extends Record<Names, string[]> {
  title: string;
  back: string | null;
  note: string;
  arms: Arm[];
  problems: Problem[];
  map: { kind: string; title: string; note: string } | null;
  shards: ShardPlace[];
  n: number;
  id: string[];
  predicted: (string | null)[];
  problem: Uint32Array;
  arm: Uint16Array;
  study: Uint16Array;
  run: Uint16Array;
  checkpoint: Uint16Array;
  status: Uint16Array;
  stop: Uint16Array;
  valid: Uint16Array;
  benchmark: Uint16Array;
  source: Uint16Array;
  sample: Uint32Array;
  chars: Uint32Array;
  /** Missing values are NaN in the columns below. */
  tokens: Float64Array;
  seed: Float64Array;
  temperature: Float64Array;
  max_tokens: Float64Array;
  x: Float64Array;
  y: Float64Array;
  /** Rows of problem p: `starts[p]` up to, not including, `starts[p + 1]`. */
  starts: Uint32Array;
}

export type Segment = [kind: "speech" | "step" | "answer" | "outside", speaker: string, text: string];

export interface Rollout {
  text: string;
  segments: Segment[];
  answer: string | null;
  near: [row: number, distance: number][];
  far: [row: number, distance: number][];
}

type Json = Record<string, unknown>;

/** Check the index and return it with typed columns; a `DataError` says in plain words what is wrong. */
export function readIndex(given: unknown): Index {
  const json = record(given, "The index");
  if (json.format !== FORMAT) {
    throw new DataError(
      `The index has format ${JSON.stringify(json.format) ?? "none"}; this page reads format ${FORMAT}. ` +
        "Write the data and the page with the same version of panelbook.",
    );
  }
  const arms = list(json.arms, "arms").map((arm) => {
    const { name, colour, style } = record(arm, "An arm");
    // The colour goes into a style: nothing but a colour may.
    const shown = typeof colour === "string" && /^#[0-9a-fA-F]{6}$/.test(colour) ? colour : "#666666";
    return { name: String(name), colour: shown, style: style === "voices" ? "voices" : "steps" } as Arm;
  });
  const names = (key: Names) => list(json[key], key).map(String);
  const [studies, benchmarks, sources] = [names("studies"), names("benchmarks"), names("sources")];
  const [checkpoints, runs, statuses, stops] = [names("checkpoints"), names("runs"), names("statuses"), names("stops")];
  const problems = list(json.problems, "problems").map((given, i) => {
    const problem = record(given, `Problem ${i}`);
    const benchmark = place(problem.benchmark, benchmarks.length, `The benchmark of problem ${i}`);
    const source = place(problem.source, sources.length, `The source of problem ${i}`);
    return { id: String(problem.id), benchmark, source, question: textOrNull(problem.question), gold: textOrNull(problem.gold) };
  });

  const columns = record(json.columns, "columns");
  const id = list(columns.id, "columns.id").map(String);
  const n = id.length;
  const column = (key: string): unknown[] => {
    const values = list(columns[key], `columns.${key}`);
    if (values.length !== n) throw new DataError(`Column ${key} of the index has ${values.length} values, not ${n}.`);
    return values;
  };
  const places = (key: string, limit: number): Uint16Array =>
    Uint16Array.from(column(key), (value, row) => place(value, Math.min(limit, 65_536), `Column ${key}, row ${row},`));
  const counts = (key: string): Uint32Array =>
    Uint32Array.from(column(key), (value, row) => place(value, 2 ** 32, `Column ${key}, row ${row},`));
  const numbers = (key: string): Float64Array =>
    Float64Array.from(column(key), (value) => (typeof value === "number" ? value : Number.NaN));

  const problem = counts("problem");
  const starts = new Uint32Array(problems.length + 1);
  for (let row = 0; row < n; row++) {
    const here = place(problem[row], problems.length, `Column problem, row ${row},`);
    if (row > 0 && here < problem[row - 1]!) throw new DataError(`Row ${row} of the index is not in the order of problems.`);
    starts[here + 1]!++;
  }
  for (let p = 0; p < problems.length; p++) starts[p + 1]! += starts[p]!;

  return {
    title: textOrNull(json.title) ?? "Rollouts",
    back: safeLink(json.back),
    note: textOrNull(json.note) ?? "",
    arms, studies, benchmarks, sources, checkpoints, runs, statuses, stops, problems,
    map: json.map === null || json.map === undefined ? null : readMap(json.map),
    shards: readShards(json.shards, n),
    n, id, problem, starts,
    predicted: column("predicted").map(textOrNull),
    arm: places("arm", arms.length),
    study: places("study", studies.length),
    run: places("run", runs.length),
    checkpoint: places("checkpoint", checkpoints.length),
    status: places("status", statuses.length),
    stop: places("stop", stops.length),
    valid: places("valid", 2),
    benchmark: Uint16Array.from(problem, (p) => problems[p]!.benchmark),
    source: Uint16Array.from(problem, (p) => problems[p]!.source),
    sample: counts("sample"),
    tokens: numbers("tokens"),
    chars: counts("chars"),
    seed: numbers("seed"),
    temperature: numbers("temperature"),
    max_tokens: numbers("max_tokens"),
    x: numbers("x"),
    y: numbers("y"),
  };
}

/** Check one shard; a row that is not as agreed is shown as its text alone. */
export function readShard(given: unknown, expected: number): Rollout[] {
  const rows = list(record(given, "A part").rows, "rows");
  if (rows.length !== expected) throw new DataError(`it holds ${rows.length} rollouts, not ${expected}`);
  return rows.map((row) => {
    const { text, segments, answer, near, far } = record(row, "A rollout");
    const pairs = (value: unknown) =>
      (Array.isArray(value) ? value : []).filter((pair) => Array.isArray(pair) && Number.isInteger(pair[0])) as [number, number][];
    const parts = (Array.isArray(segments) ? segments : [])
      .filter((part) => Array.isArray(part) && part.length === 3)
      .map((part: unknown[]) => part.map(String) as unknown as Segment);
    return { text: String(text ?? ""), segments: parts, answer: textOrNull(answer), near: pairs(near), far: pairs(far) };
  });
}

/** Which shard holds a row, or -1. */
export function shardOf(index: Index, row: number): number {
  let [low, high] = [0, index.shards.length - 1];
  while (low <= high) {
    const middle = (low + high) >> 1;
    const { first, n } = index.shards[middle]!;
    if (row < first) high = middle - 1;
    else if (row >= first + n) low = middle + 1;
    else return middle;
  }
  return -1;
}

function readMap(given: unknown): NonNullable<Index["map"]> {
  const { kind, title, note } = record(given, "map");
  return { kind: textOrNull(kind) ?? "", title: textOrNull(title) ?? "", note: textOrNull(note) ?? "" };
}

function readShards(given: unknown, n: number): ShardPlace[] {
  let next = 0;
  const shards = list(given, "shards").map((shard, i) => {
    const { file, first, n: size } = record(shard, `Shard ${i}`);
    // The name becomes the address of a script: only one beside this page will do.
    if (typeof file !== "string" || !/^data\/[\w-]+\.js$/.test(file)) throw new DataError(`Shard ${i} has the file name ${JSON.stringify(file)}.`);
    if (first !== next || !Number.isInteger(size)) throw new DataError(`Shard ${i} does not begin where the one before ends.`);
    next += size as number;
    return { file, first, n: size as number };
  });
  if (next !== n) throw new DataError(`The shards hold ${next} rollouts, the index ${n}.`);
  return shards;
}

/** A link back must stay among the files of the book: no scheme, no host. */
function safeLink(value: unknown): string | null {
  return typeof value === "string" && /^[\w./#?=&%-]+$/.test(value) && !value.startsWith("//") ? value : null;
}

function record(value: unknown, what: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new DataError(`${what} is not as expected: no object.`);
  return value as Json;
}

function list(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value)) throw new DataError(`The index has no list of ${what}.`);
  return value;
}

function place(value: unknown, limit: number, what: string): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value >= limit) {
    throw new DataError(`${what} is ${JSON.stringify(value)}; it must be a whole number from 0 to ${limit - 1}.`);
  }
  return value;
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}
