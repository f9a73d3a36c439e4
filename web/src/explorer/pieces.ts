// A completion is hostile until shown otherwise. It is taken apart into pieces that a component sets as text nodes:
// plain text, formulas, and marks for what a reader would not see or what would turn the page around.

export type Piece =
  | { kind: "text"; text: string }
  | { kind: "hit"; text: string }
  | { kind: "mark"; text: string; title: string }
  | { kind: "math"; tex: string; display: boolean; source: string };

/** Formulas longer than this are shown as their source, as are all after so many of one text. */
const LONGEST_FORMULA = 4_000;
const MOST_FORMULAS = 400;
/** So many marks of one text get a frame; the rest are plain characters. */
const MOST_MARKS = 1_000;

// Names, not the pictures that Unicode has for them: few fonts do.
const CONTROLS =
  "NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US".split(" ");

const NAMES: Record<number, [string, string]> = {
  0x00ad: ["SHY", "soft hyphen"],
  0x061c: ["ALM", "Arabic letter mark"],
  0x180e: ["MVS", "Mongolian vowel separator"],
  0x200b: ["ZWSP", "zero width space"],
  0x200c: ["ZWNJ", "zero width non-joiner"],
  0x200d: ["ZWJ", "zero width joiner"],
  0x200e: ["LRM", "left-to-right mark"],
  0x200f: ["RLM", "right-to-left mark"],
  0x2028: ["LS", "line separator"],
  0x2029: ["PS", "paragraph separator"],
  0x202a: ["LRE", "left-to-right embedding"],
  0x202b: ["RLE", "right-to-left embedding"],
  0x202c: ["PDF", "pop directional formatting"],
  0x202d: ["LRO", "left-to-right override"],
  0x202e: ["RLO", "right-to-left override"],
  0x115f: ["HF", "Hangul filler"],
  0x1160: ["HF", "Hangul filler"],
  0x3164: ["HF", "Hangul filler"],
  0xffa0: ["HF", "Hangul filler"],
  0x2060: ["WJ", "word joiner"],
  0x2066: ["LRI", "left-to-right isolate"],
  0x2067: ["RLI", "right-to-left isolate"],
  0x2068: ["FSI", "first strong isolate"],
  0x2069: ["PDI", "pop directional isolate"],
  0xfeff: ["BOM", "byte order mark"],
};

// Control characters but tab and line feed, what steers direction or has no width (but the joiner within an emoji), tags,
// and lone surrogates.
const UNSEEN =
  /\r\n|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200c\u200e\u200f\u115f\u1160\u3164\uffa0\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]|(?<![\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d|[\u{e0000}-\u{e007f}]|\p{Surrogate}/gu;

/** The mark that stands for a character, and what it is called. */
export function nameUnseen(character: string): { text: string; title: string } {
  const code = character.codePointAt(0)!;
  const point = `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
  if (code < 0x20) return { text: CONTROLS[code]!, title: `control character ${point}` };
  if (code === 0x7f) return { text: "DEL", title: `control character ${point}` };
  const named = NAMES[code];
  if (named) return { text: named[0], title: `${named[1]} ${point}` };
  if (code >= 0xd800 && code < 0xe000) return { text: point, title: `lone surrogate ${point}` };
  return { text: point, title: `invisible character ${point}` };
}

/** The text with every unseen character replaced, for places that hold a string only: lists, labels, the map. */
export function visible(text: string): string {
  return text.replace(UNSEEN, (found) => (found === "\r\n" ? "\n" : `\u27e6${nameUnseen(found).text}\u27e7`));
}

/** Take a text apart into text and marks; `matcher` marks what a search found. */
export function splitMarks(text: string, matcher: RegExp | null = null): Piece[] {
  const pieces: Piece[] = [];
  const plain = (part: string) => {
    if (!part) return;
    if (!matcher) return void pieces.push({ kind: "text", text: part });
    let from = 0;
    matcher.lastIndex = 0;
    for (const hit of part.matchAll(matcher)) {
      if (hit.index > from) pieces.push({ kind: "text", text: part.slice(from, hit.index) });
      pieces.push({ kind: "hit", text: hit[0] });
      from = hit.index + hit[0].length;
    }
    if (from < part.length) pieces.push({ kind: "text", text: part.slice(from) });
  };
  let [from, marks] = [0, 0];
  let held = "";
  for (const found of text.matchAll(UNSEEN)) {
    if (marks >= MOST_MARKS) break;
    held += text.slice(from, found.index);
    from = found.index + found[0].length;
    if (found[0] === "\r\n") {
      held += "\n";
      continue;
    }
    plain(held);
    held = "";
    pieces.push({ kind: "mark", ...nameUnseen(found[0]) });
    marks++;
  }
  plain(held + (marks >= MOST_MARKS ? visible(text.slice(from)) : text.slice(from)));
  return pieces;
}

const ENVIRONMENTS = "align|aligned|alignat|gather|gathered|equation|eqnarray|multline|cases|array|matrix|pmatrix|bmatrix|vmatrix";
const OPEN = new RegExp(`\`\`\`|\\\\\\(|\\\\\\[|\\$\\$|\\$|\\\\begin\\{(${ENVIRONMENTS})(\\*?)\\}`, "g");

/** Take a text apart into formulas and the rest. Delimiters: \( \), \[ \], $$ $$, $ $ and displayed environments. */
export function splitMath(text: string, matcher: RegExp | null = null): Piece[] {
  const pieces: Piece[] = [];
  let [from, formulas] = [0, 0];
  const open = new RegExp(OPEN);
  const closes = new Map<string, number>(); // where each delimiter comes next: looked for once, however many open
  for (let found = open.exec(text); found && formulas < MOST_FORMULAS; found = open.exec(text)) {
    const start = found.index;
    const [mark] = found;
    if (text[start - 1] === "\\") continue; // an escaped dollar, or a line break before a bracket
    const inside = start + mark.length;
    let close: string;
    if (mark === "```") {
      const end = text.indexOf("```", inside); // code: no formulas in it
      open.lastIndex = end < 0 ? text.length : end + 3;
      continue;
    }
    if (mark === "\\(") close = "\\)";
    else if (mark === "\\[") close = "\\]";
    else if (mark === "$$" || mark === "$") close = mark;
    else close = `\\end{${found[1]}${found[2]}}`;
    if ((closes.get(close) ?? -1) < inside) closes.set(close, (text.indexOf(close, inside) + 1 || Infinity) - 1);
    const end = closes.get(close)! - inside;
    if (end === 0 || end > LONGEST_FORMULA) continue;
    const body = text.slice(inside, inside + end);
    const stop = inside + end + close.length;
    if (mark === "$" && !looksLikeMath(body, text[stop] ?? "")) continue;
    if (body.search(UNSEEN) >= 0) continue; // what cannot be seen is marked, not typeset
    pieces.push(...splitMarks(text.slice(from, start), matcher));
    const environment = mark.startsWith("\\begin");
    const source = text.slice(start, stop);
    pieces.push({ kind: "math", tex: environment ? source : body, display: environment || mark === "\\[" || mark === "$$", source });
    from = open.lastIndex = stop;
    formulas++;
  }
  pieces.push(...splitMarks(text.slice(from), matcher));
  return pieces;
}

/** Between single dollars there may be a formula, or the words between two prices. */
function looksLikeMath(body: string, after: string): boolean {
  if (/^\s|\s$|\n\s*\n|\\$/.test(body) || /\d/.test(after) || body.length > 600) return false;
  if (/[\\^_{}=<>+*/|]/.test(body)) return true;
  return /^[\w.,'()! -]+$/.test(body) && !/[A-Za-z]{3}/.test(body); // "x", "n-1", "f(x)", "12"
}

/** A pattern that finds the words of a search literally, whatever their case; null if there are none. */
export function makeMatcher(search: string): RegExp | null {
  const words = search.trim();
  return words ? new RegExp(words.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"), "gi") : null;
}
