import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Index } from "./contract";
import { describe, number, statusLook } from "./look";
import { visible } from "./pieces";

const HEIGHT = 46;
const AROUND = 6;

interface Props {
  index: Index;
  listed: Uint32Array;
  current: number;
  open: (row: number) => void;
}

/** The listed rollouts. Only those in sight are elements: fifty thousand scroll as easily as fifty. */
export function List({ index, listed, current, open }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [sight, setSight] = useState({ top: 0, height: 600 });
  const at = listed.indexOf(current);

  useEffect(() => {
    const measure = () => setSight({ top: box.current!.scrollTop, height: box.current!.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);

  useLayoutEffect(() => {
    const { scrollTop, clientHeight } = box.current!;
    if (at >= 0 && (at * HEIGHT < scrollTop || (at + 1) * HEIGHT > scrollTop + clientHeight)) {
      box.current!.scrollTop = at * HEIGHT - clientHeight / 3;
    }
  }, [at, listed, sight.height]);

  const keys = (event: KeyboardEvent) => {
    const page = Math.max(Math.floor(sight.height / HEIGHT) - 1, 1);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: listed.length - 1 }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const row = listed[Math.min(Math.max(to, 0), listed.length - 1)];
    if (row !== undefined) open(row);
  };

  const first = Math.max(Math.floor(sight.top / HEIGHT) - AROUND, 0);
  const last = Math.min(Math.ceil((sight.top + sight.height) / HEIGHT) + AROUND, listed.length);
  return (
    <div
      ref={box} class="list" role="listbox" tabIndex={0} aria-label="Rollouts" onKeyDown={keys}
      aria-activedescendant={at >= first && at < last ? `row-${current}` : undefined}
      onScroll={({ currentTarget }) => setSight({ top: currentTarget.scrollTop, height: currentTarget.clientHeight })}
    >
      <div class="rows" role="presentation" style={{ height: `${listed.length * HEIGHT}px` }}>
        {Array.from(listed.subarray(first, last), (row, i) => (
          <Item key={row} {...{ index, row, open }} at={first + i} of={listed.length} selected={row === current} />
        ))}
      </div>
    </div>
  );
}

interface ItemProps {
  index: Index;
  row: number;
  at: number;
  of: number;
  selected: boolean;
  open: (row: number) => void;
}

function Item({ index, row, at, of, selected, open }: ItemProps) {
  const arm = index.arms[index.arm[row]!]!;
  const { glyph, look } = statusLook(index, index.status[row]!);
  const predicted = index.predicted[row];
  const tokens = index.tokens[row]!;
  return (
    <div
      id={`row-${row}`} class="item" role="option" aria-selected={selected} aria-setsize={of} aria-posinset={at + 1}
      aria-label={describe(index, row)} style={{ top: `${at * HEIGHT}px`, "--arm": arm.colour }} onClick={() => open(row)}
    >
      <span class={`glyph ${look}`} aria-hidden="true">{glyph}</span>
      <bdi class="name">{visible(index.problems[index.problem[row]!]!.id)}</bdi>
      <bdi class="said">{predicted === null || predicted === undefined ? "" : visible(predicted)}</bdi>
      <span class="who">
        <i class="dot" />
        <bdi>{visible(arm.name)}</bdi> · <bdi>{visible(index.checkpoints[index.checkpoint[row]!]!)}</bdi> · draw {index.sample[row]}
      </span>
      <span class="length">{Number.isNaN(tokens) ? "" : `${number(tokens)} tok`}</span>
    </div>
  );
}
