// Which columns fit, and how wide they are. Entry point: `layout`.

import type { Column, Row } from "./api";
import { decoration, textOf } from "./cells";

/** Widths in pixels; those of cells include their padding. */
const PADDING = 28;
const NARROWEST = 48;
const WIDEST = 260;
/** How much of the room that is left a column of text may take. */
const STRETCHED = 420;
/** What the value beside a graph or a bar takes at least, as in the style sheet. */
const BESIDE = 54;

/** How many characters fewer a text may have and still be wider than another. */
const NARROW = 3;

/** Returns how to measure texts in the page's font. */
function ruler(weight: number): (text: string) => number {
  const context = document.createElement("canvas").getContext("2d");
  if (context === null) return (text) => text.length * 8;
  context.font = `${weight} 13px ${getComputedStyle(document.body).fontFamily}`;
  // The page's digits are all as wide as a zero; the canvas has them proportional.
  return (text) => Math.ceil(context.measureText(text.replace(/\d/g, "0")).width) + 2;
}

/** What is known of the columns of a table from the rows that were seen: columns only become wider, so that nothing jumps. */
export class Widths {
  readonly #widths = new Map<string, number>();
  readonly #longest = new Map<string, number>();
  readonly #plain = ruler(400);
  readonly #bold = ruler(600);

  /** Takes in rows. */
  see(columns: readonly Column[], rows: readonly Row[]): void {
    for (const column of columns) {
      const measured = column === columns[0] ? this.#bold : this.#plain;
      let longest = this.#longest.get(column.field) ?? 0;
      let value = 0;
      for (const row of rows) {
        const text = textOf(row, column);
        if (text === "" || text.length < longest - NARROW) continue;
        longest = Math.max(longest, text.length);
        value = Math.max(value, measured(text));
      }
      if (value === 0) continue;
      this.#longest.set(column.field, longest);
      const beside = decoration(column);
      const content = beside + Math.max(value, beside > 0 ? BESIDE : 0);
      const width = Math.max(NARROWEST, Math.min(WIDEST + beside, Math.max(content, this.heading(column)) + PADDING));
      this.#widths.set(column.field, Math.max(width, this.of(column)));
    }
  }

  /** Returns the width of a heading, with the mark of the order. */
  heading(column: Column): number {
    return this.#bold(`${column.title} ↓`);
  }

  /** Returns the width of a column; 0 if no row had a value. */
  of(column: Column): number {
    return this.#widths.get(column.field) ?? 0;
  }
}

export interface Placed {
  readonly column: Column;
  readonly width: number;
}

/**
 * Returns the columns to show, in their order: those of the lowest ranks that fit; with `all`, each that has a value. What is left of
 * the room goes to columns of text that need it.
 */
export function layout(
  columns: readonly Column[],
  widths: Widths,
  room: number,
  sorted: string,
  all: boolean,
): readonly Placed[] {
  const width = (column: Column) => Math.max(widths.of(column), column.field === sorted ? widths.heading(column) + PADDING : 0);
  const known = columns.filter((column) => width(column) > 0);
  const importance = (column: Column) => (column === columns[0] || column.field === sorted ? -1 : column.rank);
  const byRank = known.map((column, index) => ({ column, index })).sort((one, other) => importance(one.column) - importance(other.column) || one.index - other.index);
  const chosen = new Set<Column>();
  let used = 0;
  for (const { column } of byRank) {
    if (!all && chosen.size > 1 && used + width(column) > room) break;
    chosen.add(column);
    used += width(column);
  }
  const placed = known.filter((column) => chosen.has(column)).map((column) => ({ column, width: width(column) }));
  const stretchable = placed.filter(({ column, width }) => !column.is_numeric && width >= WIDEST / 2);
  const spare = Math.max(0, room - used);
  const each = stretchable.length === 0 ? 0 : spare / stretchable.length;
  return placed.map((place) => {
    const more = stretchable.includes(place) ? Math.min(each, Math.max(0, STRETCHED - place.width)) : 0;
    return { column: place.column, width: Math.floor(place.width + more) };
  });
}
