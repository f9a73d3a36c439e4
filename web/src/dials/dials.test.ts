import { describe, expect, it } from "vitest";
import { chartNumber, frameNumber, plain, readData, type Data } from "./data";
import { makeScale, makeTicks, spread, writeTick } from "./scale";

const axis = (low: number, high: number, log = false) => ({ low, high, log });

describe("scales", () => {
  it("map ends to ends and the middle to the middle", () => {
    const scale = makeScale(axis(0, 10), 50, 250);
    expect([scale(0), scale(5), scale(10)]).toEqual([50, 150, 250]);
  });
  it("give equal ratios equal lengths on a log axis", () => {
    const scale = makeScale(axis(1, 16, true), 0, 400);
    expect([1, 2, 4, 8, 16].map((k) => Math.round(scale(k)))).toEqual([0, 100, 200, 300, 400]);
  });
  it("run upwards where the first pixel is the lower one", () => {
    expect(makeScale(axis(0, 1), 300, 0)(0.25)).toBe(225);
  });
});

describe("ticks", () => {
  it("are round and within the axis", () => {
    expect(makeTicks(axis(0, 1), 5)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
    expect(makeTicks(axis(-0.31, 0.12), 4)).toEqual([-0.2, 0]);
  });
  it("of a log axis are 1, 2, 5 times powers of ten, thinned", () => {
    expect(makeTicks(axis(10, 120, true), 9)).toEqual([10, 20, 50, 100]);
    expect(makeTicks(axis(1000, 100000, true), 9)).toEqual([1000, 3000, 10000, 30000, 100000]);
    expect(makeTicks(axis(1000, 100000, true), 3)).toEqual([1000, 10000, 100000]);
  });
  it("are written in their style", () => {
    expect([writeTick(0.25, "percent"), writeTick(1.5, "ratio")]).toEqual(["25%", "1.5×"]);
    expect(writeTick(20000, "tokens")).toBe("20,000");
    expect([writeTick(0.025, "fraction"), writeTick(-0.1, "points")]).toEqual(["0.025", "-10 pp"]);
  });
});

describe("labels", () => {
  it("that are apart stay where they are", () => {
    expect(spread([10, 100], 15, 0, 200)).toEqual([10, 100]);
  });
  it("that touch are pushed apart, in their order", () => {
    expect(spread([52, 50], 15, 0, 200)).toEqual([65, 50]);
  });
  it("stay above the lower edge", () => {
    expect(spread([199, 198], 15, 0, 200)).toEqual([200, 185]);
  });
});

const data = (change: Partial<Data> = {}): string =>
  JSON.stringify({
    format: 1,
    title: "t",
    claim: "c",
    note: "",
    knobs: [
      { label: "k", texts: ["1", "2", "3"], at: 0, choice: false },
      { label: "view", texts: ["a", "b"], at: 1, choice: true },
    ],
    charts: [{}, {}],
    series: [],
    frames: [0, 1, 2, 3, 4, 5].map((number) => ({ points: [], say: [[String(number)]] })),
    ...change,
  });

describe("data", () => {
  it("numbers frames row by row, as Python writes them", () => {
    const { knobs } = readData(data());
    expect([frameNumber(knobs, [0, 0]), frameNumber(knobs, [0, 1]), frameNumber(knobs, [2, 1])]).toEqual([0, 1, 5]);
  });
  it("has the chart of its choice", () => {
    expect(chartNumber(readData(data()), [2, 1])).toBe(1);
    expect(chartNumber(readData(data({ charts: [{} as never] })), [2, 1])).toBe(0);
  });
  it("is refused when a frame is missing, a chart is missing, or the format is another", () => {
    expect(() => readData(data({ frames: [] }))).toThrow(/0 frames for 6 positions/);
    expect(() => readData(data({ charts: [{}, {}, {}] as never }))).toThrow(/3 charts/);
    expect(() => readData(data({ format: 2 }))).toThrow(/format 2/);
    expect(() => readData("{")).toThrow();
  });
  it("reads aloud with every interval", () => {
    const parts = ["With ", { label: "8" }, ": ", { value: "63%", interval: "50% to 70%" }, "."];
    expect(plain(parts)).toBe("With 8: 63% (50% to 70%).");
  });
});
