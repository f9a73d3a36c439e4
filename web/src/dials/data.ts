// What a dial carries on its page, as `lib/panelbook/publish/dials.py` writes it, and the checks that it is so.

export type Text = string;
/** One mark: series, x, y, low, high, and how value and interval are written. */
export type Mark = [number, number | null, number | null, number | null, number | null, Text, Text];
export type Row = [number | null, number | null, number | null, number | null];
export type Part = Text | { label: Text } | { value: Text; interval: Text };

export interface Knob {
  label: Text;
  texts: Text[];
  at: number;
  choice: boolean;
}

export interface Axis {
  label: Text;
  style: Text;
  log: boolean;
  low: number;
  high: number;
  ticks: [number, Text][];
  reference: number | null;
}

export interface Chart {
  kind: "curves" | "bars";
  x: Axis;
  y: Axis;
  curves: [number, Row[]][];
}

export interface Series {
  name: Text;
  colour: Text;
  dash: Text;
  marker: Text;
}

export interface Frame {
  points: Mark[];
  say: Part[][];
}

export interface Data {
  format: number;
  title: Text;
  claim: Text;
  note: Text;
  knobs: Knob[];
  charts: Chart[];
  series: Series[];
  frames: Frame[];
}

/** Read the data of a dial; an error says what is wrong, and the dial stays hidden. */
export function readData(text: string): Data {
  const data = JSON.parse(text) as Data;
  if (data.format !== 1) throw new Error(`a dial of format ${String(data.format)}; this script reads format 1`);
  const positions = data.knobs.reduce((product, knob) => product * knob.texts.length, 1);
  if (data.frames.length !== positions) {
    throw new Error(`dial "${data.title}" has ${data.frames.length} frames for ${positions} positions`);
  }
  const choice = data.knobs.find((knob) => knob.choice);
  if (data.charts.length !== 1 && data.charts.length !== choice?.texts.length) {
    throw new Error(`dial "${data.title}" has ${data.charts.length} charts, which is not one for each choice`);
  }
  return data;
}

/** Number of the frame at a position of every knob; the last knob runs fastest. */
export function frameNumber(knobs: readonly Knob[], at: readonly number[]): number {
  return knobs.reduce((number, knob, i) => number * knob.texts.length + (at[i] ?? 0), 0);
}

/** The chart that is drawn at a position: the one of its choice. */
export function chartNumber(data: Data, at: readonly number[]): number {
  const choice = data.knobs.findIndex((knob) => knob.choice);
  return data.charts.length > 1 ? (at[choice] ?? 0) : 0;
}

/** A sentence as plain text. */
export function plain(parts: readonly Part[]): string {
  return parts
    .map((part) =>
      typeof part === "string" ? part : "label" in part ? part.label : `${part.value} (${part.interval})`,
    )
    .join("");
}
