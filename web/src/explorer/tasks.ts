// The two long works of the page as hooks: the text search and the export.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Index } from "./contract";
import { applyFilters, type Filters } from "./filters";
import { makeMatcher } from "./pieces";
import { makeFile, newSearch, runSearch, type Progress } from "./reading";
import type { Shards } from "./shards";

const REFRESH_MS = 200;

export interface Searching {
  /** 1 for every row in which the words were found; null if there are none to find. */
  hits: Uint8Array | null;
  /** Grows whenever `hits` has changed. */
  version: number;
  progress: (Progress & { stopped: boolean }) | null;
  stop: () => void;
  resume: () => void;
}

/** Search the texts of the rollouts that pass the other filters, part by part, whenever words or filters change. */
export function useSearch(index: Index, shards: Shards, filters: Filters): Searching {
  const matcher = useMemo(() => makeMatcher(filters.search), [filters.search]);
  const search = useMemo(() => (matcher ? newSearch(index, filters.search) : null), [index, matcher]);
  const [version, setVersion] = useState(0);
  const [progress, setProgress] = useState<Searching["progress"]>(null);
  const [attempt, setAttempt] = useState(0);
  const abort = useRef<AbortController | null>(null);
  useEffect(() => {
    setProgress(null);
    if (!search || !matcher) return;
    const control = (abort.current = new AbortController());
    let last = 0;
    const report = (now: Progress) => {
      if (control.signal.aborted || (now.done < now.of && performance.now() - last < REFRESH_MS)) return;
      last = performance.now();
      setProgress({ ...now, stopped: false });
      setVersion((before) => before + 1);
    };
    const { toSearch } = applyFilters(index, filters, null);
    void runSearch(shards, search, toSearch, matcher, report, control.signal);
    return () => control.abort();
  }, [index, shards, search, matcher, filters, attempt]);
  return {
    hits: search?.hits ?? null,
    version,
    progress,
    stop: () => {
      abort.current?.abort();
      setProgress((before) => before && { ...before, stopped: true });
    },
    resume: () => setAttempt(attempt + 1),
  };
}

export interface Exporting {
  progress: Progress | null;
  message: string;
  start: (rows: Uint32Array) => void;
  stop: () => void;
}

/** Collect the texts of the listed rollouts and hand them to the reader as a file. */
export function useExport(shards: Shards): Exporting {
  const [progress, setProgress] = useState<Progress | null>(null);
  const [message, setMessage] = useState("");
  const abort = useRef<AbortController | null>(null);
  const start = async (rows: Uint32Array) => {
    abort.current?.abort();
    const control = (abort.current = new AbortController());
    setMessage("");
    const failed: number[] = [];
    const ascending = rows.slice().sort();
    const file = await makeFile(shards, ascending, (now) => {
      failed.splice(0, failed.length, ...now.failed);
      if (!control.signal.aborted) setProgress(now);
    }, control.signal);
    if (abort.current !== control) return;
    setProgress(null);
    if (control.signal.aborted) return setMessage("Export cancelled.");
    download(file, `rollouts-${rows.length}.jsonl`);
    const missing = failed.length ? ` ${failed.length} parts of the data could not be read and are missing in it.` : "";
    setMessage(`The file with the listed rollouts is made.${missing}`);
  };
  return { progress, message, start, stop: () => abort.current?.abort() };
}

function download(file: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
