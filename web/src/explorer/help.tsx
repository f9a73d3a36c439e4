import { useEffect, useRef } from "preact/hooks";
import { visible } from "./pieces";

const KEYS: [string, string][] = [
  ["j  ↓", "next rollout of the list"],
  ["k  ↑", "rollout before it"],
  ["n", "next problem"],
  ["p", "problem before it"],
  ["1", "next draw in the left pane (with Shift: the one before)"],
  ["2", "next draw in the right pane (with Shift: the one before)"],
  ["/", "search the texts"],
  ["m", "map on or off"],
  ["r", "raw text on or off"],
  ["?", "this help"],
  ["Esc", "close, or leave a field"],
];

/** The keys, and what the page shows. */
export function Help({ note, close }: { note: string; close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current!.showModal(), []);
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title" onClose={close}>
      <h2 id="help-title">Keys</h2>
      <dl>{KEYS.map(([key, what]) => <div key={key}><dt>{key.split("  ").map((one) => <kbd key={one}>{one}</kbd>)}</dt><dd>{what}</dd></div>)}</dl>
      <p>
        The arrows move through the list while it has the focus, or nothing has. On the map they move from point to point,
        Enter opens one, + and − zoom, 0 shows all.
      </p>
      <p>
        Texts are shown as the model wrote them. Formulas are typeset; what cannot be seen is marked, as in{" "}
        <span class="unseen">NUL</span> or <span class="unseen">RLO</span>. The raw view shows the text untouched but for these marks.
      </p>
      {note && <p><bdi>{visible(note)}</bdi></p>}
      <button type="button" onClick={() => dialog.current!.close()}>Close</button>
    </dialog>
  );
}
