import { useEffect, useRef } from "preact/hooks";
import type { Side } from "./draws";

export interface Actions {
  next: (by: 1 | -1) => void;
  problem: (by: 1 | -1) => void;
  turn: (side: Side, by: 1 | -1) => void;
  search: () => void;
  map: () => void;
  raw: () => void;
  help: () => void;
  /** While a dialog is open, which has keys of its own. */
  paused: boolean;
}

/** The keys of the page. A field keeps its keys, but for Escape, which leaves it. */
export function useKeys(actions: Actions): void {
  const latest = useRef(actions);
  latest.current = actions;
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      const act = latest.current;
      if (act.paused || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      const target = event.target as HTMLElement;
      if (target.matches("input:not([type=checkbox]), select, textarea")) {
        if (event.key === "Escape") target.blur();
        return;
      }
      const nowhere = target === document.body;
      switch (event.code === "Digit1" || event.code === "Digit2" ? event.code : event.key) {
        case "j": act.next(1); break;
        case "k": act.next(-1); break;
        case "ArrowDown": if (!nowhere) return; act.next(1); break;
        case "ArrowUp": if (!nowhere) return; act.next(-1); break;
        case "n": act.problem(1); break;
        case "p": act.problem(-1); break;
        case "Digit1": act.turn("left", event.shiftKey ? -1 : 1); break;
        case "Digit2": act.turn("right", event.shiftKey ? -1 : 1); break;
        case "/": act.search(); break;
        case "m": act.map(); break;
        case "r": act.raw(); break;
        case "?": act.help(); break;
        default: return;
      }
      event.preventDefault();
    };
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  }, []);
}
