// Which rows of a long table are in the document, and which are fetched. Entry point: `windowOf`.

/** Rows in the document beyond those that are visible, in either direction. */
const OVERSCAN = 10;

/** Rows that are fetched beyond those in the document, and the step in which the fetched part moves. */
const AHEAD = 60;
const STEP = 50;

/** The most rows that the server returns at once. */
const MOST = 1000;

export interface Window {
  /** Rows in the document: the first, and the one after the last. */
  readonly first: number;
  readonly end: number;
  readonly offset: number;
  readonly limit: number;
}

export function windowOf(scrollTop: number, height: number, rowHeight: number): Window {
  const top = Math.max(0, Math.floor(scrollTop / rowHeight));
  const visible = Math.ceil(height / rowHeight) + 1;
  const first = Math.max(0, top - OVERSCAN);
  const end = top + visible + OVERSCAN;
  const offset = Math.max(0, Math.floor((first - AHEAD) / STEP) * STEP);
  const limit = Math.min(MOST, Math.ceil((end + AHEAD - offset) / STEP) * STEP);
  return { first, end, offset, limit };
}

/** Returns the row that is nearest to a position among this many rows; `undefined` if there is none. */
export function nearest(position: number, count: number): number | undefined {
  return count === 0 ? undefined : Math.max(0, Math.min(position, count - 1));
}
