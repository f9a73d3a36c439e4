import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { fromHash, toHash, writeHash, type State } from "./address";
import type { Index } from "./contract";
import { cycle, openIn, openRow, other, step, type Side } from "./draws";
import { NO_FILTERS, applyFilters, countActive, type Filters } from "./filters";
import { Finder } from "./finder";
import { Help } from "./help";
import { useKeys } from "./keys";
import { List } from "./list";
import { number, statusLook } from "./look";
import { PlaceMap } from "./map";
import { EmptyPane, Pane } from "./pane";
import { makeMatcher, visible } from "./pieces";
import { ProblemCard } from "./problem";
import type { Shards } from "./shards";
import { Sieve } from "./sieve";
import { SORTS, sortRows, type Sort } from "./sort";
import { useExport, useSearch } from "./tasks";
import { useTheme } from "./theme";

type Tab = "list" | "read";

export function App({ index, shards }: { index: Index; shards: Shards }) {
  const start = useMemo(() => fromHash(index, location.hash), [index]);
  const [state, setState] = useState<State>(start.state);
  const [notice, setNotice] = useState(start.missing);
  const [help, setHelp] = useState(false);
  const [tab, setTab] = useState<Tab>("read");
  const theme = useTheme();
  const { open, filters, sort, map, raw } = state;
  const change = useCallback((part: Partial<State>) => setState((before) => ({ ...before, ...part })), []);

  const written = useRef(open);
  useEffect(() => {
    writeHash(toHash(index, state), written.current !== open);
    written.current = open;
  }, [index, state]);
  useEffect(() => {
    const back = () => {
      const { state, missing } = fromHash(index, location.hash);
      written.current = state.open;
      setState(state);
      setNotice(missing);
    };
    addEventListener("popstate", back);
    return () => removeEventListener("popstate", back);
  }, [index]);

  const searching = useSearch(index, shards, filters);
  const found = useMemo(() => applyFilters(index, filters, searching.hits), [index, filters, searching.hits, searching.version]);
  const listed = useMemo(() => sortRows(index, found.rows, sort), [index, found.rows, sort]);
  const matcher = useMemo(() => makeMatcher(filters.search), [filters.search]);
  const exporting = useExport(shards);

  const current = open[open.side];
  const goTo = (row: number) => row >= 0 && change({ open: openRow(index, open, row) });
  const read = (row: number) => (goTo(row), setTab("read"));
  const showIn = (side: Side) => (row: number) => change({ open: openIn(index, open, side, row) });
  const turn = (side: Side, by: 1 | -1) => open[side] >= 0 && showIn(side)(cycle(index, open[side], by));
  const move = (by: 1 | -1) => goTo(step(index, listed, current, by, true));
  const colours = () => change({ map: map ? null : "arm" });
  useKeys({
    next: (by) => goTo(step(index, listed, current, by)),
    problem: move,
    turn,
    search: () => {
      const focus = () => document.getElementById("search")?.focus();
      focus(); // at once, for what is typed next; on a phone the field comes into sight first
      setTab("list");
      requestAnimationFrame(focus);
    },
    map: () => (colours(), setTab(map ? "read" : "list")),
    raw: () => change({ raw: !raw }),
    help: () => setHelp(true),
    paused: help,
  });

  const copy = async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      setNotice("The link to this view is copied.");
    } catch {
      setNotice(`This browser does not let the page copy. The link to this view: ${location.href}`);
    }
  };

  const outside = current >= 0 && !found.rows.includes(current);
  const panes: Side[] = ["left", "right"];
  return (
    <>
      <header class="top">
        {index.back && <a class="back" href={index.back} target="_top">← Book</a>}
        <h1><bdi>{visible(index.title)}</bdi></h1>
        <div class="tools">
          <button type="button" aria-pressed={map !== null} title="Map (m)" onClick={() => (colours(), setTab("list"))}>Map</button>
          <button type="button" aria-pressed={raw} title="Raw text (r)" onClick={() => change({ raw: !raw })}>Raw</button>
          <button type="button" onClick={copy}>Copy link</button>
          <button type="button" onClick={theme.next} title="Light, dark, or as the system is">
            <span class="heard">Theme: </span>{theme.mode === "auto" ? "Auto" : theme.mode === "dark" ? "Dark" : "Light"}
          </button>
          <button type="button" aria-label="Help and keys" title="Keys (?)" onClick={() => setHelp(true)}>?</button>
        </div>
      </header>
      <nav class="tabs" aria-label="Parts of the page">
        <button type="button" aria-pressed={tab === "read"} onClick={() => setTab("read")}>Read</button>
        <button type="button" aria-pressed={tab === "list"} onClick={() => setTab("list")}>
          {map ? "Map and list" : "List"} <small>{number(listed.length)}</small>
        </button>
      </nav>
      {notice && (
        <p class="notice" role="status">{notice} <button type="button" class="quiet" aria-label="Dismiss" onClick={() => setNotice("")}>✕</button></p>
      )}
      <div class="body" data-tab={tab} data-map={map ? "open" : undefined}>
        <aside class="side" aria-label="Find rollouts">
          {map && (
            <PlaceMap
              index={index} listed={found.rows} current={current} beside={open[other(open.side)]} by={map} dark={theme.dark}
              colourBy={(by) => change({ map: by })} open={read} close={() => change({ map: null })}
            />
          )}
          <Finder search={filters.search} change={(search) => change({ filters: { ...filters, search } })} searching={searching} />
          <Sieve
            index={index} filters={filters} counts={found.counts} change={(filters: Filters) => change({ filters })}
            problem={current < 0 ? null : index.problems[index.problem[current]!]!.id}
          />
          <div class="order">
            <p class="count" role="status" aria-live="polite">
              <b>{number(listed.length)}</b> {listed.length < index.n && `of ${number(index.n)} `}rollouts{outside && listed.length > 0 && <small>The open one is not among them.</small>}
            </p>
            {(countActive(filters) > 0 || filters.search !== "") && (
              <button type="button" title="Take all filters and the search away" onClick={() => change({ filters: NO_FILTERS })}>Reset</button>
            )}
            <Sorting sort={sort} change={(sort) => change({ sort })} />
          </div>
          <List index={index} listed={listed} current={current} open={read} />
          {listed.length === 0 && index.n > 0 && <p class="absent">No rollout passes these filters.</p>}
          <footer>
            {exporting.progress
              ? <>
                  <progress max={exporting.progress.of} value={exporting.progress.done} aria-label="Export" />
                  <button type="button" onClick={exporting.stop}>Cancel</button>
                </>
              : <button type="button" disabled={!listed.length} onClick={() => exporting.start(listed)}>
                  Export {number(listed.length)} as JSONL
                </button>}
            <span role="status">{exporting.message}</span>
          </footer>
        </aside>
        <main class="read" tabIndex={-1}>
          {current < 0
            ? <p class="absent">There is no rollout here: the data hold {number(index.n)}.</p>
            : <>
                <ProblemCard index={index} open={open} show={goTo} move={move} />
                <div class="sides" role="group" aria-label="Which pane is shown">
                  {panes.map((side) => open[side] >= 0 && (
                    <button key={side} type="button" aria-pressed={open.side === side} onClick={() => change({ open: { ...open, side } })} style={{ "--arm": index.arms[index.arm[open[side]]!]!.colour }}>
                      <i class="dot" />
                      <bdi>{visible(index.arms[index.arm[open[side]]!]!.name)}</bdi>, draw {index.sample[open[side]]},{" "}
                      {statusLook(index, index.status[open[side]]!).words}
                    </button>
                  ))}
                </div>
                <div class="panes">
                  {panes.map((side) => open[side] < 0
                    ? <EmptyPane key={side}>There is no other draw of this problem to set beside it.</EmptyPane>
                    : <Pane
                        key={side} index={index} shards={shards} side={side} row={open[side]} current={open.side === side} raw={raw}
                        matcher={matcher} show={showIn(side)} across={showIn(other(side))}
                      />)}
                </div>
              </>}
        </main>
      </div>
      {help && <Help note={index.note} close={() => setHelp(false)} />}
    </>
  );
}

function Sorting({ sort, change }: { sort: Sort; change: (sort: Sort) => void }) {
  return (
    <div class="sorting">
      <label>
        <select aria-label="Sort by" value={sort.by} onChange={({ currentTarget }) => change({ ...sort, by: currentTarget.value as Sort["by"] })}>
          {SORTS.map((by) => <option key={by} value={by}>by {by}</option>)}
        </select>
      </label>
      <button
        type="button" aria-label={sort.down ? "Descending; sort ascending" : "Ascending; sort descending"} onClick={() => change({ ...sort, down: !sort.down })}
      >
        {sort.down ? "↓" : "↑"}
      </button>
    </div>
  );
}
