import { useEffect, useRef, useState } from "preact/hooks";
import { number } from "./look";
import type { Searching } from "./tasks";

const PAUSE_MS = 300;

interface Props {
  search: string;
  change: (search: string) => void;
  searching: Searching;
}

/** The field of the text search, and how far the search has come. */
export function Finder({ search, change, searching }: Props) {
  const [typed, setTyped] = useState(search);
  const timer = useRef(0);
  useEffect(() => setTyped(search), [search]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const commit = (value: string, wait: number) => {
    setTyped(value);
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => change(value), wait);
  };
  const { progress, stop, resume } = searching;
  return (
    <form class="finder" role="search" onSubmit={(event) => (event.preventDefault(), commit(typed, 0))}>
      <label>
        <span class="heard">Search the texts of the rollouts</span>
        <input
          type="search" id="search" value={typed} placeholder="Search the texts   /" autocomplete="off" spellcheck={false} maxLength={200}
          onInput={({ currentTarget }) => commit(currentTarget.value, PAUSE_MS)}
        />
      </label>
      {progress && progress.of > 0 && (progress.done < progress.of || progress.failed.length > 0) && (
        <p class="progress">
          {progress.done < progress.of && <progress max={progress.of} value={progress.done} aria-label="Search" />}
          <span>
            {progress.stopped ? "stopped at" : "read"} {number(progress.done)} of {number(progress.of)} parts
            {progress.failed.length > 0 && `; ${progress.failed.length} cannot be read`}
          </span>
          {progress.done < progress.of && (progress.stopped
            ? <button type="button" onClick={resume}>Continue</button>
            : <button type="button" onClick={stop}>Cancel</button>)}
        </p>
      )}
    </form>
  );
}
