import { useMemo } from "preact/hooks";
import type { Index } from "./contract";
import { groupsOf, type Group, type Open } from "./draws";
import { deepen, describe, number, statusLook } from "./look";
import { visible } from "./pieces";
import { Text } from "./text";

interface Props {
  index: Index;
  open: Open;
  show: (row: number) => void;
  move: (by: 1 | -1) => void;
}

/** The problem on which both panes are, and every draw of it. */
export function ProblemCard({ index, open, show, move }: Props) {
  const number_ = index.problem[open[open.side]]!;
  const problem = index.problems[number_]!;
  const groups = useMemo(() => groupsOf(index, number_), [index, number_]);
  return (
    <section class="problem" aria-label="Problem">
      <header>
        <h2><bdi>{visible(problem.id)}</bdi></h2>
        <p class="origin">
          <bdi>{visible(index.benchmarks[problem.benchmark]!)}</bdi>
          {index.sources[problem.source] !== index.benchmarks[problem.benchmark] && <> · <bdi>{visible(index.sources[problem.source]!)}</bdi></>}
        </p>
        <div class="moves">
          <button type="button" title="Previous problem (p)" aria-label="Previous problem" onClick={() => move(-1)}>←</button>
          <button type="button" title="Next problem (n)" aria-label="Next problem" onClick={() => move(1)}>→</button>
        </div>
      </header>
      {problem.question === null
        ? <p class="absent">The data do not hold this problem’s question.</p>
        : <div class="question"><Text text={problem.question} dollars /></div>}
      <p class="gold">
        <span>Gold answer</span>{" "}
        {problem.gold === null ? <em>not recorded</em> : <Text text={problem.gold} />}
      </p>
      <div class="strips">
        {groups.map((group) => <Strip key={group.key} {...{ index, group, open, show }} />)}
      </div>
      <p class="legend" aria-hidden="true">
        <i class="square full">✓</i> correct <i class="square">✗</i> wrong <i class="square">–</i> no answer, or not graded
      </p>
    </section>
  );
}

function Strip({ index, group, open, show }: { index: Index; group: Group; open: Open; show: (row: number) => void }) {
  const colour = index.arms[group.arm]!.colour;
  const right = group.rows.filter((row) => statusLook(index, index.status[row]!).look === "right").length;
  const opened = group.rows.filter((row) => row === open.left || row === open.right);
  const entry = opened[0] ?? group.rows[0];
  const keys = (event: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const buttons = [...(event.currentTarget as HTMLElement).querySelectorAll("button")];
    const next = buttons[(buttons.indexOf(document.activeElement as HTMLButtonElement) + by + buttons.length) % buttons.length];
    next?.focus();
  };
  return (
    <div class="strip" style={{ "--arm": colour, "--deep": deepen(colour) }}>
      <span class="whose">
        <i class="dot" /><bdi>{visible(group.label)}</bdi> <small>{number(right)} of {number(group.rows.length)} right</small>
      </span>
      <div class="squares" role="group" aria-label={`Draws of ${visible(group.label)}`} onKeyDown={keys}>
        {group.rows.map((row) => {
          const { glyph, look } = statusLook(index, index.status[row]!);
          return (
            <button
              key={row} type="button" class={`square ${look}`} tabIndex={row === entry ? 0 : -1} title={describe(index, row)}
              aria-label={describe(index, row)} aria-pressed={row === open.left || row === open.right} onClick={() => show(row)}
            >
              <span aria-hidden="true">{glyph}</span>
            </button>
          );
        })}
      </div>
    </div>
  );
}
