import temml from "temml";
import { expect, test } from "vitest";
import { makeMatcher, splitMarks, splitMath, visible } from "./pieces";

const math = (text: string) => splitMath(text).flatMap((piece) => (piece.kind === "math" ? [piece.tex] : []));
const whole = (text: string) =>
  splitMath(text).map((piece) => (piece.kind === "math" ? piece.source : piece.text)).join("");

test.each([
  ["so \\(x^2\\) is", ["x^2"]],
  ["\\[ a \\]", [" a "]],
  ["$$a+b$$ and $c_1$", ["a+b", "c_1"]],
  ["$n$ and $12$ and $f(x)$", ["n", "12", "f(x)"]],
  ["\\begin{align*} a &= b \\end{align*}", ["\\begin{align*} a &= b \\end{align*}"]],
  ["it costs $5 and then $6 more", []],
  ["it costs $5, not $10", []],
  ["between $3 million and $4 million", []],
  ["\\$5 + 3\\$", []],
  ["$ x $", []],
  ["$never closed", []],
  ["\\( never closed", []],
  ["``` $x^2$ ``` $y$", ["y"]],
  ["$$", []],
  ["$a\n\nb=c$", []],
  ["\\(a\u202eb\\)", []],
])("the formulas of %j", (text, formulas) => {
  expect(math(text)).toEqual(formulas);
  expect(visible(whole(text)).replaceAll(/[⟦⟧]/g, "")).toBe(visible(text).replaceAll(/[⟦⟧]/g, ""));
});

test("displayed formulas are told from those in the line", () =>
  expect(splitMath("\\[a\\] \\(b\\) $$c$$").flatMap((piece) => (piece.kind === "math" ? [piece.display] : []))).toEqual([true, false, true]));

test("a formula that is too long, and formulas past the limit, stay text", () => {
  expect(math(`\\(${"x".repeat(5000)}\\)`)).toEqual([]);
  expect(math("$x$ ".repeat(1000))).toHaveLength(400);
});

test.each([
  ["a\0b", "a⟦NUL⟧b"],
  ["\u001b[31m", "⟦ESC⟧[31m"],
  ["\u007f\r\b", "⟦DEL⟧⟦CR⟧⟦BS⟧"],
  ["a\r\nb\tc\n", "a\nb\tc\n"],
  ["\u202eabc\u202c", "⟦RLO⟧abc⟦PDF⟧"],
  ["\u2066\u2069\u200b\ufeff", "⟦LRI⟧⟦PDI⟧⟦ZWSP⟧⟦BOM⟧"],
  ["\u0085\u{e0041}", "⟦U+0085⟧⟦U+E0041⟧"],
  ["\ud800x", "⟦U+D800⟧x"],
  ["👩‍🔬 a\u200db", "👩‍🔬 a⟦ZWJ⟧b"],
  ["日本 é עברית 𝔸", "日本 é עברית 𝔸"],
])("what cannot be seen in %j is shown", (text, shown) => expect(visible(text)).toBe(shown));

test("marks carry their name", () =>
  expect(splitMarks("a\u202e")).toEqual([{ kind: "text", text: "a" }, { kind: "mark", text: "RLO", title: "right-to-left override U+202E" }]));

test("a megabyte of control characters makes a thousand marks and one text", () => {
  const pieces = splitMarks("\0".repeat(1_000_000));
  expect(pieces).toHaveLength(1001);
  expect(pieces.at(-1)).toEqual({ kind: "text", text: "⟦NUL⟧".repeat(999_000) });
});

test.each([["$".repeat(1_000_000)], ["\\(".repeat(500_000)], ["\\begin{array}".repeat(20_000)], ["`".repeat(100_000)]])(
  "hostile delimiters are read in time that grows with the text",
  (text) => {
    const start = performance.now();
    splitMath(text);
    expect(performance.now() - start).toBeLessThan(2000);
  },
);

test("a search is literal, whatever its case, and marked in the text", () => {
  expect(makeMatcher("  ")).toBeNull();
  expect(splitMarks("A (b)* a (B)*", makeMatcher("(b)*"))).toEqual([
    { kind: "text", text: "A " }, { kind: "hit", text: "(b)*" }, { kind: "text", text: " a " }, { kind: "hit", text: "(B)*" },
  ]);
});

test.each([
  ["\\href{javascript:alert(1)}{x}"], ["\\url{https://example.org}"], ["\\class{evil}{x}"], ["\\style{position:fixed}{x}"],
  ["\\htmlData{a=b}{x}"], ["\\data{a=b}{x}"], ["\\id{a}{x}"], ["\\includegraphics{https://example.org/x.png}"],
])("Temml refuses %s, as it is told to", (tex) =>
  expect(() => temml.renderToString(tex, { throwOnError: true, trust: false })).toThrow());
