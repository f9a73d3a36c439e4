// Work that needs the text of many rollouts: the search and the export. Both read part after part, give the page
// time to breathe between two, can be cancelled, and go on past a part that cannot be read.
import type { Index } from "./contract";
import { toLine } from "./jsonl";
import { shardOf } from "./contract";
import type { Shards } from "./shards";

export interface Progress {
  done: number;
  of: number;
  /** Parts that could not be read. */
  failed: number[];
}

const breathe = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

/** Which parts hold the rows, ascending, with the rows of each. */
export function partsOf(index: Index, rows: Uint32Array): Map<number, number[]> {
  const parts = new Map<number, number[]>();
  for (const row of rows) {
    const shard = shardOf(index, row);
    const there = parts.get(shard);
    if (there) there.push(row);
    else parts.set(shard, [row]);
  }
  return new Map([...parts].sort(([a], [b]) => a - b));
}

/** What a search knows: in which rows it found its words, and which parts it has read. */
export interface Search {
  text: string;
  hits: Uint8Array;
  read: Uint8Array;
}

export const newSearch = (index: Index, text: string): Search => ({
  text,
  hits: new Uint8Array(index.n),
  read: new Uint8Array(index.shards.length),
});

/** Read the parts that hold `rows` and that the search has not read; all rows of a part are searched. */
export async function runSearch(
  shards: Shards,
  search: Search,
  rows: Uint32Array,
  matcher: RegExp,
  report: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<void> {
  const parts = [...partsOf(shards.index, rows).keys()].filter((shard) => !search.read[shard]);
  await eachPart(shards, parts, report, signal, (shard, rollouts) => {
    const { first } = shards.index.shards[shard]!;
    rollouts.forEach(({ text }, i) => {
      matcher.lastIndex = 0;
      if (matcher.test(text)) search.hits[first + i] = 1;
    });
    search.read[shard] = 1;
  });
}

/** The rollouts as a file of JSON lines, in the order of the index; a part at a time becomes a piece of the file. */
export async function makeFile(
  shards: Shards,
  rows: Uint32Array,
  report: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<Blob> {
  const pieces: Blob[] = [];
  const parts = partsOf(shards.index, rows);
  await eachPart(shards, [...parts.keys()], report, signal, (shard, rollouts) => {
    const { first } = shards.index.shards[shard]!;
    const lines = parts.get(shard)!.map((row) => toLine(shards.index, row, rollouts[row - first]!));
    pieces.push(new Blob(lines));
  });
  return new Blob(pieces, { type: "application/x-ndjson" });
}

async function eachPart(
  shards: Shards,
  parts: number[],
  report: (progress: Progress) => void,
  signal: AbortSignal,
  work: (shard: number, rollouts: Awaited<ReturnType<Shards["load"]>>) => void,
): Promise<void> {
  const failed: number[] = [];
  for (const [done, shard] of parts.entries()) {
    report({ done, of: parts.length, failed });
    await breathe();
    if (signal.aborted) return;
    try {
      work(shard, await shards.load(shard));
    } catch {
      failed.push(shard);
    }
    if (signal.aborted) return;
  }
  report({ done: parts.length, of: parts.length, failed });
}
