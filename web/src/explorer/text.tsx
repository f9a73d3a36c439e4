import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { typeset } from "./formula";
import { splitMarks, splitMath, type Piece } from "./pieces";

const SHOWN = 20_000;

interface Props {
  text: string;
  matcher?: RegExp | null;
  /** Typeset formulas; without, the text stands as it was written. */
  math?: boolean;
  /** Show an escaped dollar outside formulas as a dollar, as in the questions of data sets. */
  dollars?: boolean;
}

/** A text of a model: set as text nodes, isolated in its direction, cut where it is long. */
export function Text({ text, matcher = null, math = true, dollars = false }: Props) {
  const [all, setAll] = useState(false);
  const cut = text.length > SHOWN && !all;
  const pieces = useMemo(() => {
    const shown = cut ? text.slice(0, SHOWN) : text;
    const found = math ? splitMath(shown, matcher) : splitMarks(shown, matcher);
    if (!dollars) return found;
    return found.map((piece) => (piece.kind === "text" ? { ...piece, text: piece.text.replaceAll("\\$", "$") } : piece));
  }, [text, cut, math, matcher, dollars]);
  return (
    <>
      <bdi class="text">{pieces.map(show)}</bdi>
      {cut && (
        <button type="button" class="more" onClick={() => setAll(true)}>
          Show all {text.length.toLocaleString("en")} characters
        </button>
      )}
    </>
  );
}

function show(piece: Piece, i: number) {
  switch (piece.kind) {
    case "text": return piece.text;
    case "hit": return <mark key={i}>{piece.text}</mark>;
    case "mark": return <span key={i} class="unseen" title={piece.title}>{piece.text}</span>;
    case "math": return <Formula key={`${i}${piece.source}`} {...piece} />;
  }
}

function Formula({ tex, display, source }: Extract<Piece, { kind: "math" }>) {
  const host = useRef<HTMLSpanElement>(null);
  useLayoutEffect(() => host.current!.replaceChildren(typeset(tex, display) ?? source), [tex, display, source]);
  return <span ref={host} class={display ? "formula display" : "formula"} title={source} />;
}
