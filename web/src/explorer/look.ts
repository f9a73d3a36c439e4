// How values are written and coloured, the same everywhere on the page.
import type { Index } from "./contract";
import { visible } from "./pieces";

export const number = (value: number): string => value.toLocaleString("en");

/** Statuses: a glyph as second cue beside the colour (a CSS class), and words for people. */
const STATUS: Record<string, [glyph: string, look: string, words: string]> = {
  correct: ["\u2713", "right", "correct"],
  wrong: ["\u2717", "wrong", "wrong"],
  no_answer: ["\u2013", "none", "no answer"],
  unparsable: ["?", "none", "unparsable"],
  timeout: ["\u29d6", "none", "grader timed out"],
  ungraded: ["\u00b7", "none", "not graded"],
};

export function statusLook(index: Index, status: number): { glyph: string; look: string; words: string } {
  const name = index.statuses[status] ?? "";
  const [glyph, look, words] = STATUS[name] ?? ["?", "none", visible(name)];
  return { glyph, look, words };
}

export const statusWords = (name: string): string => STATUS[name]?.[2] ?? visible(name);

/** The colours of right, wrong and neither on the map: Okabe and Ito's that no arm of the book has. */
export const ON_MAP: Record<string, string> = { right: "#009E73", wrong: "#CC79A7", none: "#E69F00" };

/** A colour dark enough to carry white text (contrast 4.6 or more). */
export function deepen(colour: string): string {
  const parts = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
  const light = (part: number) => (part / 255 <= 0.03928 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const contrast = () => 1.05 / (0.2126 * light(parts[0]!) + 0.7152 * light(parts[1]!) + 0.0722 * light(parts[2]!) + 0.05);
  while (contrast() < 4.6) parts.forEach((part, i) => (parts[i] = part * 0.96));
  return `#${parts.map((part) => Math.floor(part).toString(16).padStart(2, "0")).join("")}`;
}

/** A rollout in a few words, for labels. */
export function describe(index: Index, row: number): string {
  const problem = index.problems[index.problem[row]!]!;
  const { words } = statusLook(index, index.status[row]!);
  const arm = visible(index.arms[index.arm[row]!]!.name);
  const checkpoint = visible(index.checkpoints[index.checkpoint[row]!]!);
  return `${visible(problem.id)}, ${arm}, ${checkpoint}, draw ${index.sample[row]}, ${words}`;
}
