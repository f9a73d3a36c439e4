// Light or dark, shared with the book: its theme keeps the reader's choice under these two keys.
import { useEffect, useState } from "preact/hooks";

export const MODES = ["auto", "light", "dark"] as const;
export type Mode = (typeof MODES)[number];

const prefersDark = () => matchMedia("(prefers-color-scheme: dark)");

function read(): Mode {
  try {
    return MODES.find((mode) => mode === localStorage.getItem("mode")) ?? "auto";
  } catch {
    return "auto"; // storage is closed to this page, as in a sandboxed frame
  }
}

/** The mode, the theme that it comes to, and how to move to the next mode. */
export function useTheme(): { mode: Mode; dark: boolean; next: () => void } {
  const [mode, setMode] = useState(read);
  const [system, setSystem] = useState(() => prefersDark().matches);
  const dark = mode === "dark" || (mode === "auto" && system);
  useEffect(() => {
    const query = prefersDark();
    const listen = () => setSystem(query.matches);
    query.addEventListener("change", listen);
    return () => query.removeEventListener("change", listen);
  }, []);
  useEffect(() => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  }, [dark]);
  const next = () => {
    const chosen = MODES[(MODES.indexOf(mode) + 1) % MODES.length]!;
    setMode(chosen);
    try {
      localStorage.setItem("mode", chosen);
      localStorage.setItem("theme", chosen === "auto" ? (prefersDark().matches ? "dark" : "light") : chosen);
    } catch {
      // the choice then lasts as long as the page
    }
  };
  return { mode, dark, next };
}
