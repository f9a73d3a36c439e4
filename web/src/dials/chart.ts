// The drawing: axes, curves with their bands, and the marks of the position. Shape and dashes tell the series apart
// as colour does; every mark carries its interval.
import type { Chart, Mark, Row, Series } from "./data";
import { makeScale, makeTicks, spread, writeTick, type Scale } from "./scale";

const SVG = "http://www.w3.org/2000/svg";
const SHAPES: Record<string, string> = {
  o: "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0",
  s: "M-4.5,-4.5h9v9h-9z",
  "^": "M0,-5.5l5.2,9.5h-10.4z",
  v: "M0,5.5l5.2,-9.5h-10.4z",
  "<": "M-5.5,0l9.5,5.2v-10.4z",
  D: "M0,-5.8l5.8,5.8l-5.8,5.8l-5.8,-5.8z",
  X: "M-5,-3l2,-2l3,3l3,-3l2,2l-3,3l3,3l-2,2l-3,-3l-3,3l-2,-2l3,-3z",
};

type Attributes = Record<string, string | number>;

const px = (value: number): string => `${value.toFixed(1)}px`;

/** Make an SVG element; text goes in as text. */
function svg(name: string, attributes: Attributes = {}, children: readonly Node[] = [], text = ""): SVGElement {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  if (text) node.textContent = text;
  node.append(...children);
  return node;
}

/** Colour of a series, for a stroke or a fill; one without a colour is drawn in that of the text. */
const paint = (series: Series | undefined): string =>
  series && /^#[0-9a-f]{6}$/i.test(series.colour) ? series.colour : "currentColor";

/** The sign of a series as the legend and the table show it. */
export function drawSign(series: Series): SVGElement {
  const colour = paint(series);
  return svg("svg", { class: "dial-sign", viewBox: "-16 -7 32 14", width: 32, height: 14, "aria-hidden": "true" }, [
    svg("line", { x1: -15, x2: 15, y1: 0, y2: 0, stroke: colour, "stroke-width": 2, "stroke-dasharray": series.dash }),
    svg("path", { d: SHAPES[series.marker] ?? SHAPES.o!, fill: colour }),
  ]);
}

/** A picture of one chart that follows the marks of the position. */
export class Picture {
  readonly node: SVGSVGElement;
  private marks: SVGElement;
  private x: Scale = () => 0;
  private y: Scale = () => 0;
  private readonly height = 290;
  private width = 0;
  private readonly edge = { top: 12, right: 14, bottom: 44, left: 52 };

  constructor(
    private readonly series: readonly Series[],
    private readonly clip: string,
  ) {
    this.node = svg("svg", { class: "dial-picture", role: "img" }) as SVGSVGElement;
    this.marks = svg("g");
  }

  /** Draw what stays when the position moves. */
  lay(chart: Chart, width: number): void {
    const { top, right, bottom, left } = this.edge;
    const [x0, x1, y0, y1] = [left, width - right, this.height - bottom, top];
    this.width = width;
    const pad = chart.kind === "bars" ? 0 : 10;
    this.x = makeScale(chart.x, x0 + pad, x1 - pad);
    this.y = makeScale(chart.y, y0, y1);
    this.node.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.node.setAttribute("height", String(this.height));
    const fixed: Node[] = [
      svg("clipPath", { id: this.clip }, [svg("rect", { x: x0, y: y1 - 6, width: x1 - x0, height: y0 - y1 + 12 })]),
    ];
    for (const value of makeTicks(chart.y, 5)) {
      const y = this.y(value);
      fixed.push(
        svg("line", { class: "dial-grid", x1: x0, x2: x1, y1: y, y2: y }),
        svg("text", { x: x0 - 6, y: y + 4, "text-anchor": "end" }, [], writeTick(value, chart.y.style)),
      );
    }
    if (chart.y.reference !== null) {
      const y = this.y(chart.y.reference);
      fixed.push(svg("line", { class: "dial-reference", x1: x0, x2: x1, y1: y, y2: y }));
    }
    const named: [number, string][] = chart.x.ticks.length
      ? chart.x.ticks
      : makeTicks(chart.x, width < 480 ? 4 : 7).map((value) => [value, writeTick(value, chart.x.style)]);
    for (const [value, text] of named) {
      const x = this.x(value);
      fixed.push(
        svg("line", { class: "dial-axis", x1: x, x2: x, y1: y0, y2: y0 + 4 }),
        svg("text", { x, y: y0 + 17, "text-anchor": "middle" }, [], text),
      );
    }
    fixed.push(
      svg("line", { class: "dial-axis", x1: x0, x2: x1, y1: y0, y2: y0 }),
      svg("text", { x: (x0 + x1) / 2, y: this.height - 6, "text-anchor": "middle" }, [], chart.x.label),
    );
    const inside = svg("g", { "clip-path": `url(#${this.clip})` });
    for (const [number, rows] of chart.curves) inside.append(...this.curve(rows, this.series[number]));
    this.marks = svg("g");
    this.node.replaceChildren(...fixed, inside, this.marks);
  }

  /** A curve with its band; positions without a value or an interval are passed over. */
  private curve(rows: readonly Row[], series: Series | undefined): Node[] {
    type Full = [number, number, number, number];
    const has = (...cells: number[]) => (row: Row) => cells.every((cell) => row[cell] !== null);
    const path = (points: (readonly [number, number])[]) =>
      points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L");
    const band = rows.filter(has(0, 2, 3)) as Full[];
    const line = rows.filter(has(0, 1)) as Full[];
    const colour = paint(series);
    const found: Node[] = [];
    if (band.length > 1) {
      const upper = band.map((row) => [this.x(row[0]), this.y(row[3])] as const);
      const lower = band.map((row) => [this.x(row[0]), this.y(row[2])] as const).reverse();
      found.push(svg("path", { class: "dial-band", d: `M${path([...upper, ...lower])}Z`, fill: colour }));
    }
    if (line.length > 1) {
      found.push(
        svg("path", {
          class: "dial-curve",
          d: `M${path(line.map((row) => [this.x(row[0]), this.y(row[1])] as const))}`,
          stroke: colour,
          "stroke-dasharray": series?.dash ?? "",
        }),
      );
    }
    return found;
  }

  /** Move the marks to a position; marks that stay are moved, not made anew, so that they can glide. */
  show(chart: Chart, points: readonly Mark[]): void {
    const { top, bottom } = this.edge;
    const y0 = this.height - bottom;
    const within = (y: number) => Math.min(y0 + 5, Math.max(top - 5, y));
    const drawn = points.filter((mark) => mark[1] !== null && mark[2] !== null);
    while (this.marks.childElementCount > drawn.length) this.marks.lastElementChild?.remove();
    while (this.marks.childElementCount < drawn.length) {
      this.marks.append(
        svg("g", { class: "dial-mark" }, [
          svg("rect", { class: "dial-bar" }),
          svg("line", { class: "dial-cursor", y1: top, y2: y0, x1: 0, x2: 0 }),
          svg("rect", { class: "dial-whisker", width: 2.5, x: -1.25 }),
          svg("path", { class: "dial-shape" }),
          svg("text", { class: "dial-value" }),
        ]),
      );
    }
    const many = this.series.filter((_, i) => drawn.some((mark) => mark[0] === i)).length;
    const bars = chart.kind === "bars";
    const slot = (this.x(1) - this.x(0)) * 0.72;
    const places = drawn.map((mark) => {
      const rank = this.series.slice(0, mark[0]).filter((_, i) => drawn.some((other) => other[0] === i)).length;
      return this.x(mark[1] as number) + (bars ? ((rank + 0.5) / many - 0.5) * slot : 0);
    });
    const heights = drawn.map((mark) => within(this.y(mark[2] as number)));
    // Numbers beside marks at one place are pushed apart; those of other places cannot touch them.
    const texts = bars ? heights : [...heights];
    if (!bars) {
      for (const place of new Set(places)) {
        const here = places.flatMap((each, i) => (each === place ? [i] : []));
        spread(here.map((i) => heights[i] ?? 0), 15, top + 4, y0 - 4).forEach((y, i) => (texts[here[i] ?? 0] = y));
      }
    }
    drawn.forEach((mark, i) => {
      const series = this.series[mark[0]];
      const [x, y] = [places[i] ?? 0, heights[i] ?? 0];
      const [bar, cursor, whisker, shape, value] = [...(this.marks.children[i]?.children ?? [])] as SVGElement[];
      const group = this.marks.children[i] as SVGElement;
      group.style.transform = `translateX(${px(x)})`;
      const colour = paint(series);
      const [high, low] = [mark[4], mark[3]].map((end) => (end === null ? y : within(this.y(end)))) as [number, number];
      set(whisker, { fill: colour }, { y: px(high), height: px(Math.max(0, low - high)) });
      set(shape, { d: SHAPES[series?.marker ?? "o"] ?? SHAPES.o!, fill: colour }, { transform: `translateY(${px(y)})` });
      cursor?.toggleAttribute("hidden", bars);
      const wide = (slot / many) * 0.8;
      set(
        bar,
        { fill: colour, stroke: colour, "stroke-dasharray": series?.dash ?? "", x: -wide / 2, width: bars ? wide : 0 },
        { y: px(y), height: px(bars ? Math.max(0, y0 - y) : 0) },
      );
      const left = x > this.width - 74;
      set(
        value,
        { x: bars ? 0 : left ? -10 : 10, "text-anchor": bars ? "middle" : left ? "end" : "start" },
        { transform: `translateY(${px(bars ? high - 6 : (texts[i] ?? y) + 4)})` },
      );
      if (value) value.textContent = mark[5];
    });
  }
}

function set(node: SVGElement | undefined, attributes: Attributes, style: Record<string, string>): void {
  if (!node) return;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  for (const [key, value] of Object.entries(style)) {
    // A browser in which geometry is no style draws the attribute, without gliding.
    if (key !== "transform") node.setAttribute(key, value.replace("px", ""));
    node.style.setProperty(key, value);
  }
}
