import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import type { Index, Rollout } from "./contract";
import { cycle, groupsOf, slotOf, type Side } from "./draws";
import { deepen, describe, number, statusLook } from "./look";
import { visible } from "./pieces";
import { Reasoning } from "./reasoning";
import type { Shards } from "./shards";
import { Text } from "./text";

interface Props {
  index: Index;
  shards: Shards;
  side: Side;
  row: number;
  current: boolean;
  raw: boolean;
  matcher: RegExp | null;
  /** Show a row in this pane, or in the other one. */
  show: (row: number) => void;
  across: (row: number) => void;
}

/** One rollout with all that is known of it. */
export function Pane({ index, shards, side, row, current, raw, matcher, show, across }: Props) {
  const { rollout, error, retry } = useRollout(shards, row);
  const problem = index.problem[row]!;
  const groups = useMemo(() => groupsOf(index, problem), [index, problem]);
  const group = groups.find(({ rows }) => rows.includes(row))!;
  const arm = index.arms[index.arm[row]!]!;
  const status = statusLook(index, index.status[row]!);
  const gold = index.problems[problem]!.gold;
  const turn = (by: 1 | -1) => show(cycle(index, row, by));
  return (
    <section
      class={current ? "pane current" : "pane"} data-side={side} style={{ "--arm": arm.colour, "--deep": deepen(arm.colour) }}
      aria-label={`${side === "left" ? "Left" : "Right"} pane: ${describe(index, row)}`}
    >
      <header>
        <select
          aria-label={`What the ${side} pane shows`} value={slotOf(index, row).join()}
          onChange={({ currentTarget }) => {
            const chosen = groups.find(({ key }) => key === currentTarget.value)!;
            show(chosen.rows.find((twin) => index.sample[twin] === index.sample[row]) ?? chosen.rows[0]!);
          }}
        >
          {groups.map(({ key, label }) => <option key={key} value={key}>{visible(label)}</option>)}
        </select>
        <div class="stepper">
          <button type="button" aria-label={`Previous draw in the ${side} pane`} onClick={() => turn(-1)}>‹</button>
          <span>draw {index.sample[row]} <small>({group.rows.indexOf(row) + 1} of {group.rows.length})</small></span>
          <button type="button" aria-label={`Next draw in the ${side} pane`} title={side === "left" ? "1" : "2"} onClick={() => turn(1)}>›</button>
        </div>
      </header>
      <p class="verdict">
        <span class={`chip ${status.look}`}><span aria-hidden="true">{status.glyph}</span> {status.words}</span>
        <span class="pair"><small>answer</small> <b><bdi>{brief(rollout ? rollout.answer : index.predicted[row])}</bdi></b></span>
        <span class="pair"><small>gold</small> <b><bdi>{brief(gold)}</bdi></b></span>
        <span class="pair"><small>grader read</small> <bdi>{brief(index.predicted[row])}</bdi></span>
        {rollout && matcher && rollout.text.search(matcher) >= 0 && (
          <button type="button" onClick={({ currentTarget }) => toMatch(currentTarget.closest("section")!)}>next match ↓</button>
        )}
      </p>
      {error
        ? <div class="trouble" role="alert"><p>{error}</p><button type="button" onClick={retry}>Try again</button></div>
        : rollout
          ? <Body key={row} {...{ rollout, raw, matcher, style: arm.style }} />
          : <p class="loading" role="status">Loading the text …</p>}
      {rollout && <Neighbours {...{ index, rollout, across }} />}
      <Facts index={index} row={row} />
    </section>
  );
}

/** Beside the open rollout there is no other to show. */
export function EmptyPane({ children }: { children: ComponentChildren }) {
  return <section class="pane vacant" aria-label="Empty pane"><p>{children}</p></section>;
}

function Body({ rollout, raw, matcher, style }: { rollout: Rollout; raw: boolean; matcher: RegExp | null; style: string }) {
  if (rollout.text === "") return <p class="absent">The completion is empty.</p>;
  if (raw) return <div class="raw"><Text text={rollout.text} matcher={matcher} math={false} /></div>;
  return <Reasoning rollout={rollout} matcher={matcher} style={style} />;
}

function Neighbours({ index, rollout, across }: { index: Index; rollout: Rollout; across: (row: number) => void }) {
  const rows = (title: string, pairs: Rollout["near"]) => {
    const there = pairs.filter(([row]) => row >= 0 && row < index.n);
    return there.length > 0 && (
      <>
        <h3>{title}</h3>
        <ul>
          {there.map(([row, distance]) => {
            const { glyph, look } = statusLook(index, index.status[row]!);
            const arm = index.arms[index.arm[row]!]!;
            return (
              <li key={row}>
                <button type="button" title="Open in the other pane" onClick={() => across(row)} style={{ "--arm": arm.colour }}>
                  <span class="distance">{Number(distance).toFixed(3)}</span> <i class="dot" />
                  <bdi>{visible(arm.name)}</bdi> · <bdi>{visible(index.checkpoints[index.checkpoint[row]!]!)}</bdi> · draw {index.sample[row]}{" "}
                  <span class={`glyph ${look}`} aria-label={statusLook(index, index.status[row]!).words}>{glyph}</span>
                </button>
              </li>
            );
          })}
        </ul>
      </>
    );
  };
  if (!rollout.near.length && !rollout.far.length) return null;
  return (
    <details class="neighbours">
      <summary>Most and least alike draws of this problem</summary>
      {rows("Nearest", rollout.near)}
      {rows("Farthest", rollout.far)}
      <p class="rule">Cosine distance between embeddings. A click opens the draw in the other pane.</p>
    </details>
  );
}

function Facts({ index, row }: { index: Index; row: number }) {
  const value = (known: number) => (Number.isNaN(known) ? "not recorded" : number(known));
  const stop = index.stops[index.stop[row]!]!;
  const [tokens, limit] = [index.tokens[row]!, index.max_tokens[row]!];
  const facts: [string, ComponentChildren][] = [
    ["tokens", Number.isNaN(limit) ? value(tokens) : `${value(tokens)} of at most ${value(limit)}`],
    ["characters", number(index.chars[row]!)],
    ["stop", stop === "stop" ? "ended by itself" : stop === "length" ? "cut at the limit" : visible(stop)],
    ["tags", index.valid[row] ? "valid" : "not valid"],
    ["temperature", value(index.temperature[row]!)],
    ["seed", Number.isNaN(index.seed[row]!) ? "not recorded" : String(index.seed[row])],
    ["study", <bdi>{visible(index.studies[index.study[row]!]!)}</bdi>],
    ["checkpoint", <bdi>{visible(index.checkpoints[index.checkpoint[row]!]!)}</bdi>],
    ["run", <bdi>{visible(index.runs[index.run[row]!]!) || "not recorded"}</bdi>],
    ["sample", String(index.sample[row])],
    ["rollout", <code>{visible(index.id[row]!)}</code>],
  ];
  return (
    <dl class="facts">
      {facts.map(([name, what]) => <div key={name}><dt>{name}</dt><dd>{what}</dd></div>)}
    </dl>
  );
}

/** Bring the next place that the search found into sight, round and round. */
function toMatch(pane: Element): void {
  const marks = [...pane.querySelectorAll("mark")];
  const at = marks.findIndex((mark) => mark.classList.contains("at"));
  marks[at]?.classList.remove("at");
  const next = marks[(at + 1) % marks.length];
  next?.classList.add("at");
  next?.scrollIntoView({ block: "center" });
}

const brief = (text: string | null | undefined): string => {
  if (text === null || text === undefined) return "none";
  const shown = visible(text.slice(0, 80));
  return text.length > 80 ? `${shown} …` : shown || "(empty)";
};

/** The text of a row: there at once if its part is decoded, else when it has come, or why it has not. */
function useRollout(shards: Shards, row: number): { rollout?: Rollout; error?: string; retry: () => void } {
  const [state, setState] = useState<{ row: number; rollout?: Rollout; error?: string }>({ row: -1 });
  const [attempt, setAttempt] = useState(0);
  const here = useMemo(() => shards.peek(row), [shards, row]);
  useEffect(() => {
    if (here) return;
    let live = true;
    setState({ row });
    shards.rollout(row).then(
      (rollout) => live && setState({ row, rollout }),
      (error: Error) => live && setState({ row, error: error.message }),
    );
    return () => void (live = false);
  }, [shards, row, here, attempt]);
  const retry = () => setAttempt(attempt + 1);
  if (here) return { rollout: here, retry };
  return state.row === row ? { ...state, retry } : { retry };
}
