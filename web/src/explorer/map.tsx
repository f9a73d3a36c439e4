import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Index } from "./contract";
import { ON_MAP, describe, number, statusLook } from "./look";
import { visible } from "./pieces";
import { fit, nearest, placed, toX, toY, towards, zoom, type View } from "./scatter";

const REACH = 12;

interface Props {
  index: Index;
  listed: Uint32Array;
  current: number;
  beside: number;
  by: "arm" | "status";
  dark: boolean;
  colourBy: (by: "arm" | "status") => void;
  open: (row: number) => void;
  close: () => void;
}

/** Draws as points of a plane; those outside the filter are grey. */
export function PlaceMap({ index, listed, current, beside, by, dark, colourBy, open, close }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  const [moved, setMoved] = useState<View | null>(null);
  const [over, setOver] = useState(-1);
  const everyone = useMemo(() => placed(index), [index]);
  // In the order of a shuffle, so that no arm covers another by being drawn last; the same on every drawing.
  const shown = useMemo(() => {
    const rows = listed.filter((row) => Number.isFinite(index.x[row]!) && Number.isFinite(index.y[row]!));
    return rows.sort((a, b) => Math.imul(a, 0x9e3779b1) - Math.imul(b, 0x9e3779b1));
  }, [index, listed]);
  const whole = useMemo(() => fit(index, everyone, size.width, size.height), [index, everyone, size]);
  const view = moved ?? whole;
  const latest = useRef(view);
  latest.current = view;

  useEffect(() => {
    if (!canvas.current) return;
    const observer = new ResizeObserver(([entry]) => {
      const { width, height } = entry!.contentRect;
      setSize({ width, height });
      setMoved(null);
    });
    observer.observe(canvas.current);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    const frame = requestAnimationFrame(() => canvas.current && draw(canvas.current, index, everyone, shown, view, size, { current, beside, over, by }));
    return () => cancelAnimationFrame(frame);
  }, [index, everyone, shown, view, size, current, beside, over, by, dark]);

  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const wheel = (event: WheelEvent) => {
      event.preventDefault(); // the page must not scroll as well: a passive listener could not say so
      setMoved(zoom(latest.current, Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY));
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => element.removeEventListener("wheel", wheel);
  }, []);

  const pointers = useDrag(latest, setMoved, (x, y, click) => {
    const row = nearest(index, shown, latest.current, x, y, REACH);
    setOver(row);
    if (click && row >= 0) open(row);
  });

  const closer = (factor: number) => setMoved(zoom(view, factor, size.width / 2, size.height / 2));
  const keys = (event: KeyboardEvent) => {
    const arrow = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (arrow) {
      const from = over >= 0 ? over : Number.isFinite(index.x[current] ?? Number.NaN) ? current : -1;
      const row = from < 0 ? (shown[0] ?? -1) : towards(index, shown, view, from, arrow as [number, number]);
      if (row >= 0) {
        setOver(row);
        const [x, y] = [toX(index, view, row), toY(index, view, row)];
        if (x < 0 || y < 0 || x > size.width || y > size.height) setMoved({ ...view, left: view.left + size.width / 2 - x, top: view.top + size.height / 2 - y });
      }
    } else if (event.key === "Enter" || event.key === " ") {
      if (over >= 0) open(over);
    } else if (event.key === "+" || event.key === "=") closer(1.5);
    else if (event.key === "-") closer(1 / 1.5);
    else if (event.key === "0") setMoved(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  const head = (
    <header>
      <h2>{visible(index.map?.title || "Map")}</h2>
      <button type="button" class="quiet" aria-label="Close the map" onClick={close}>✕</button>
    </header>
  );
  if (!index.map || !everyone.length) {
    return <section class="map" aria-label="Map">{head}<p class="absent">These data have no map: no rollout has coordinates. The book’s map chapter makes them.</p></section>;
  }
  const legend = by === "arm"
    ? index.arms.map(({ name, colour }): [string, string] => [visible(name), colour])
    : [["correct", ON_MAP.right!], ["wrong", ON_MAP.wrong!], ["no answer", ON_MAP.none!]] as [string, string][];
  return (
    <section class="map" aria-label="Map">
      {head}
      <div class="plane">
        <canvas
          ref={canvas} tabIndex={0} role="application" aria-describedby="map-words" onKeyDown={keys} {...pointers} onPointerLeave={() => setOver(-1)}
          aria-label="Map of rollouts. Arrow keys move from point to point, Enter opens, plus and minus zoom, 0 shows all."
        />
        {over >= 0 && (
          <p class="tip" style={{ left: `${Math.min(Math.max(toX(index, view, over), 90), size.width - 90)}px`, top: `${toY(index, view, over)}px` }}>
            <bdi>{describe(index, over)}</bdi>
          </p>
        )}
        <div class="zoom">
          <button type="button" aria-label="Zoom in" onClick={() => closer(1.5)}>+</button>
          <button type="button" aria-label="Zoom out" onClick={() => closer(1 / 1.5)}>−</button>
          <button type="button" aria-label="Show all points" onClick={() => setMoved(null)}>⤢</button>
        </div>
      </div>
      <div class="key">
        <label>colour by <select value={by} onChange={({ currentTarget }) => colourBy(currentTarget.value as "arm" | "status")}>
          <option value="arm">arm</option>
          <option value="status">correctness</option>
        </select></label>
        {legend.map(([name, colour]) => <span key={name}><i class="dot" style={{ "--arm": colour }} /> <bdi>{name}</bdi></span>)}
      </div>
      <p id="map-words" class="rule">
        {number(shown.length)} of {number(everyone.length)} rollouts with a place pass the filter; the others are grey.
        The ring is the open rollout, the dashed ring the one beside it.
      </p>
      {index.map.note && <details><summary>What the map shows</summary><p class="rule">{visible(index.map.note)}</p></details>}
      <p class="heard" role="status">{over >= 0 ? describe(index, over) : ""}</p>
    </section>
  );
}

interface Marked { current: number; beside: number; over: number; by: "arm" | "status" }

function draw(canvas: HTMLCanvasElement, index: Index, everyone: Uint32Array, shown: Uint32Array, view: View, size: { width: number; height: number }, marked: Marked): void {
  const context = canvas.getContext("2d")!;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(size.width * ratio);
  canvas.height = Math.round(size.height * ratio);
  context.scale(ratio, ratio);
  const edge = Math.min(5, Math.max(2.5, 260 / Math.sqrt(everyone.length)));
  const dots = (rows: Uint32Array, colour: (row: number) => string) => {
    for (const row of rows) {
      const [x, y] = [toX(index, view, row), toY(index, view, row)];
      if (x < -edge || y < -edge || x > size.width + edge || y > size.height + edge) continue;
      context.fillStyle = colour(row);
      context.fillRect(x - edge / 2, y - edge / 2, edge, edge);
    }
  };
  if (shown.length < everyone.length) {
    context.globalAlpha = 0.22;
    dots(everyone, () => "#888888");
  }
  context.globalAlpha = 0.75;
  const looks = index.statuses.map((_, status) => ON_MAP[statusLook(index, status).look] ?? "#888888");
  dots(shown, marked.by === "arm" ? (row) => index.arms[index.arm[row]!]!.colour : (row) => looks[index.status[row]!]!);
  context.globalAlpha = 1;
  context.strokeStyle = getComputedStyle(canvas).color;
  const ring = (row: number, radius: number, dash: number[]) => {
    if (row < 0 || !Number.isFinite(index.x[row]!)) return;
    context.setLineDash(dash);
    context.lineWidth = 2;
    context.beginPath();
    context.arc(toX(index, view, row), toY(index, view, row), radius, 0, 2 * Math.PI);
    context.stroke();
  };
  ring(marked.beside, 8, [3, 3]);
  ring(marked.current, 8, []);
  ring(marked.over, 5, []);
}

/** One pointer pans, two zoom; a press that did not move is a click. */
function useDrag(view: { current: View }, move: (view: View) => void, at: (x: number, y: number, click: boolean) => void) {
  const down = useRef(new Map<number, { x: number; y: number }>());
  const path = useRef(0);
  const release = (event: PointerEvent) => {
    const click = down.current.delete(event.pointerId) && down.current.size === 0 && path.current < 5 && event.type === "pointerup";
    if (click) at(event.offsetX, event.offsetY, true);
  };
  return {
    onPointerDown: (event: PointerEvent) => {
      (event.currentTarget as Element).setPointerCapture(event.pointerId);
      if (down.current.size === 0) path.current = 0;
      down.current.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    },
    onPointerMove: (event: PointerEvent) => {
      const before = down.current.get(event.pointerId);
      const now = { x: event.offsetX, y: event.offsetY };
      if (!before) return at(now.x, now.y, false);
      path.current += Math.hypot(now.x - before.x, now.y - before.y);
      const others = [...down.current].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
      down.current.set(event.pointerId, now);
      if (others[0]) {
        const spread = (point: { x: number; y: number }) => Math.max(Math.hypot(point.x - others[0]!.x, point.y - others[0]!.y), 1);
        move(zoom(view.current, spread(now) / spread(before), others[0].x, others[0].y));
      } else if (path.current >= 5) {
        move({ ...view.current, left: view.current.left + now.x - before.x, top: view.current.top + now.y - before.y });
      }
    },
    onPointerUp: release,
    onPointerCancel: release,
  };
}
