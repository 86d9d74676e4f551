// Graphs of the last ten minutes, and bars. Entry points: `Sparkline`, `Graph` and `Bar`.

import type { VNode } from "preact";
import { duration, number } from "./human";

type Points = readonly (number | null)[];

/** Points of a graph at least: one of ten minutes that is not full yet grows from the right. */
const POINTS = 120;

/** Returns the lines and the areas below them, one for each run of known points. */
function shapes(points: Points, width: number, height: number, top: number): { line: string; area: string } {
  const length = Math.max(POINTS, points.length);
  const x = (index: number) => ((index + length - points.length) * width) / (length - 1);
  // Half of the line's width stays free above and below.
  const y = (value: number) => height - 1 - (top === 0 ? 0 : (value / top) * (height - 2));
  const at = (index: number, value: number) => `${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
  let line = "";
  let area = "";
  let start: number | undefined;
  points.forEach((value, index) => {
    if (value === null) return;
    start ??= index;
    line += `${start === index ? "M" : "L"}${at(index, value)}`;
    const next = points[index + 1];
    if (next === undefined || next === null) {
      // A single point is a line of no length, which round ends make visible.
      if (start === index) line += "h0";
      const run = points.slice(start, index + 1) as number[];
      const from = start;
      const tops = run.map((each, offset) => `L${at(from + offset, each)}`).join("");
      area += `M${x(from).toFixed(1)} ${height}${tops}L${x(index).toFixed(1)} ${height}Z`;
      start = undefined;
    }
  });
  return { line, area };
}

const largest = (points: Points) => Math.max(0, ...points.filter((value) => value !== null));

/** A small graph beside its value, which says the same in words. */
export function Sparkline({ points, top }: { points: Points; top?: number }): VNode {
  const { line, area } = shapes(points, 72, 16, top ?? largest(points));
  return (
    <svg class="spark" viewBox="0 0 72 16" width="72" height="16" aria-hidden="true">
      <path class="area" d={area} />
      <path class="line" d={line} />
    </svg>
  );
}

/** A graph with its highest value and its time. */
export function Graph(props: { title: string; points: Points; unit: string; seconds: number; top?: number }): VNode {
  const { title, points, unit, seconds } = props;
  const most = largest(points);
  const { line, area } = shapes(points, 480, 96, props.top ?? most);
  const last = points.findLast((value) => value !== null);
  const text = (value: number) => number(value, unit);
  return (
    <figure class="graph">
      <figcaption>
        <span>{title}</span>
        {last != null && <strong>{text(last)}</strong>}
      </figcaption>
      <svg viewBox="0 0 480 96" preserveAspectRatio="none" role="img" aria-label={`${title}, at most ${text(most)}`}>
        <path class="area" d={area} />
        <path class="line" d={line} />
      </svg>
      <p>
        <span>{duration(seconds * (Math.max(POINTS, points.length) - 1))} ago</span>
        <span>at most {text(most)}</span>
        <span>now</span>
      </p>
    </figure>
  );
}

/** How full something is; the number stands beside it. */
export function Bar({ ratio }: { ratio: number }): VNode {
  const state = ratio >= 0.95 ? "full" : ratio >= 0.8 ? "high" : "";
  return (
    <span class={`bar ${state}`} aria-hidden="true">
      <span style={{ width: `${Math.min(1, Math.max(0, ratio)) * 100}%` }} />
    </span>
  );
}
