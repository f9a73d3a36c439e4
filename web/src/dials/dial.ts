// The control: sliders and choices, the picture, the sentences, and the numbers of the view as a table.
import { drawSign, Picture } from "./chart";
import { chartNumber, frameNumber, plain, type Data, type Part } from "./data";

type Child = Node | string;

/** Make an element; strings become text and nothing else. */
function make<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Record<string, string> = {},
  ...children: Child[]
): HTMLElementTagNameMap[Name] {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Build a dial within its box. `id` is unique on the page. */
export function mount(box: HTMLElement, data: Data, id: string): void {
  const at = data.knobs.map((knob) => knob.at);
  const outputs: HTMLOutputElement[] = [];
  const inputs: HTMLInputElement[][] = [];

  const controls = data.knobs.map((knob, i) => {
    const name = `${id}-${i}`;
    if (knob.choice) {
      const radios = knob.texts.map((text, value) => {
        const radio = make("input", { type: "radio", name, value: String(value) });
        radio.addEventListener("change", () => turn(i, value));
        return [radio, make("label", {}, radio, make("span", {}, text))] as const;
      });
      inputs[i] = radios.map(([radio]) => radio);
      const legend = make("legend", {}, knob.label);
      return make("fieldset", { class: "dial-choice" }, legend, ...radios.map(([, label]) => label));
    }
    const range = make("input", { type: "range", id: name, min: "0", max: String(knob.texts.length - 1), step: "1" });
    range.addEventListener("input", () => turn(i, Number(range.value)));
    const output = (outputs[i] = make("output", { for: name, class: "dial-position" }));
    inputs[i] = [range];
    return make("div", { class: "dial-slider" }, make("label", { for: name }, knob.label, " "), output, range);
  });

  const picture = new Picture(data.series, `${id}-clip`);
  const frame = make("div", { class: "dial-frame" }, picture.node);
  const axis = make("p", { class: "dial-axis-title" });
  const legend = make("ul", { class: "dial-legend", "aria-hidden": "true" });
  const readout = make("output", { class: "dial-readout", "aria-live": "polite" });
  for (const group of inputs) for (const input of group) if (input.id) readout.htmlFor.add(input.id);
  const body = make("tbody");
  const caption = make("caption");
  const headings = make("tr");
  const table = make(
    "details",
    { class: "dial-table" },
    make("summary", {}, "Table of this view"),
    make("div", {}, make("table", {}, caption, make("thead", {}, headings), body)),
    ...(data.note ? [make("p", { class: "dial-small" }, data.note)] : []),
  );
  const reset = make("button", { type: "button", class: "dial-reset" }, "Reset");
  reset.addEventListener("click", () => {
    data.knobs.forEach((knob, i) => (at[i] = knob.at));
    show(true);
  });

  let laid = "";
  function turn(knob: number, value: number): void {
    at[knob] = value;
    show(false);
  }

  function show(force: boolean): void {
    const number = chartNumber(data, at);
    const chart = data.charts[number];
    const now = data.frames[frameNumber(data.knobs, at)];
    if (!chart || !now) return;
    data.knobs.forEach((knob, i) => {
      const text = knob.texts[at[i] ?? 0] ?? "";
      const group = inputs[i] ?? [];
      if (knob.choice) group.forEach((radio, value) => (radio.checked = value === at[i]));
      else if (group[0]) {
        group[0].value = String(at[i]);
        group[0].setAttribute("aria-valuetext", text);
        group[0].style.setProperty("--dial-part", String((at[i] ?? 0) / (knob.texts.length - 1)));
      }
      if (outputs[i]) outputs[i].textContent = text;
    });
    const width = Math.max(200, Math.round(frame.clientWidth || 640));
    if (force || laid !== `${number} ${width}`) {
      picture.lay(chart, width);
      laid = `${number} ${width}`;
      axis.textContent = chart.y.label;
      const here = new Set([...chart.curves, ...now.points].map(([series]) => series));
      const drawn = data.series.filter((_, i) => here.has(i));
      legend.replaceChildren(...drawn.map((series) => make("li", {}, drawSign(series), series.name)));
    }
    picture.show(chart, now.points);
    const said = now.say.map(plain).join(" ");
    picture.node.setAttribute("aria-label", `${chart.y.label} against ${chart.x.label}. ${said}`);
    readout.replaceChildren(...now.say.map((parts) => make("p", {}, ...parts.map(write))));
    const place = chart.kind === "bars" || now.points.some((mark) => mark[1] !== now.points[0]?.[1]);
    caption.textContent = chart.y.label;
    headings.replaceChildren(
      make("td"),
      ...[...(place ? [chart.x.label] : []), "estimate", "interval"].map((text) => make("th", { scope: "col" }, text)),
    );
    body.replaceChildren(
      ...now.points.map((mark) => {
        const series = data.series[mark[0]];
        const tick = chart.x.ticks.find(([value]) => value === mark[1])?.[1] ?? (mark[1] ?? "").toLocaleString("en-US");
        return make(
          "tr",
          {},
          make("th", { scope: "row" }, ...(series ? [drawSign(series), series.name] : [])),
          ...(place ? [tick, mark[5], mark[6]] : [mark[5], mark[6]]).map((text) => make("td", {}, text)),
        );
      }),
    );
  }

  const title = make("p", { class: "dial-title", id: `${id}-title` }, make("span", {}, "Turn it"), ` ${data.title}`);
  box.setAttribute("role", "group");
  box.setAttribute("aria-labelledby", title.id);
  box.replaceChildren(
    make("div", { class: "dial-head" }, title, reset),
    make("p", { class: "dial-claim" }, data.claim),
    make("div", { class: "dial-controls" }, ...controls),
    readout,
    legend,
    axis,
    frame,
    table,
  );
  box.hidden = false;
  show(true);
  new ResizeObserver(() => show(false)).observe(frame);
}

/** One part of a sentence: text, the name of a position, or a number with its interval. */
function write(part: Part): Child {
  if (typeof part === "string") return part;
  if ("label" in part) return make("em", {}, part.label);
  return make("span", { class: "dial-number" }, make("b", {}, part.value), ` (${part.interval})`);
}
