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

const canvas = document.createElement("canvas").getContext("2d");

/** Returns the width of a text in the page's font. */
function measured(text: string, weight: number): number {
  if (canvas === null) return text.length * 8;
  canvas.font = `${weight} 13px ${getComputedStyle(document.body).fontFamily}`;
  return Math.ceil(canvas.measureText(text).width);
}

/** What is known of the columns of a table from the rows that were seen: columns only become wider, so that nothing jumps. */
export class Widths {
  readonly #widths = new Map<string, number>();
  readonly #longest = new Map<string, string>();

  /** Takes in rows, and returns whether something changed. */
  see(columns: readonly Column[], rows: readonly Row[]): boolean {
    let isChanged = false;
    for (const column of columns) {
      let longest = "";
      for (const row of rows) {
        const text = textOf(row, column);
        // Of texts with as many characters, digits are as wide as each other, and others nearly so.
        if (text.length > longest.length) longest = text;
      }
      if (longest === "" || longest === this.#longest.get(column.field)) continue;
      this.#longest.set(column.field, longest);
      const beside = decoration(column);
      const value = Math.max(measured(longest, column === columns[0] ? 600 : 400), beside > 0 ? BESIDE : 0);
      // The heading has the mark of the order beside it.
      const heading = measured(`${column.title} ↓`, 600);
      const width = Math.max(NARROWEST, Math.min(WIDEST, Math.max(value + beside, heading) + PADDING));
      if (width > (this.#widths.get(column.field) ?? 0)) {
        this.#widths.set(column.field, width);
        isChanged = true;
      }
    }
    return isChanged;
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
  const width = (column: Column) => Math.max(widths.of(column), column.field === sorted ? measured(`${column.title} ↓`, 600) + PADDING : 0);
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
