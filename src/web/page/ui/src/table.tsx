// A live table: filter, order, and the rows that are visible. Entry point: `TableView`.

import type { VNode } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Column, Objects, Row, TableDefinition } from "./api";
import { Age, Banner } from "./banner";
import { Cell, full, KeyLink, textOf } from "./cells";
import { layout, Widths } from "./columns";
import { FilterForm } from "./filter";
import { count, duration } from "./human";
import { usePoll } from "./poll";
import { go, parse, type Route, tableUrl } from "./route";
import { nearest, windowOf } from "./virtual";

/** Height of a row until one is measured, in pixels. */
const ROW_HEIGHT = 30;

/** Where somebody was in a table when they left it, by its URL. */
const left = new Map<string, { readonly scrollTop: number; readonly key: string | undefined }>();

/** Whether every column is shown, and the table scrolls sideways. */
const ALL_COLUMNS = "all-columns";

interface Active {
  readonly index: number;
  readonly key: string | undefined;
}

export function TableView(props: {
  route: Route;
  definition: TableDefinition;
  seconds: number;
  onObjects: (objects: Objects) => void;
}): VNode {
  const { route, definition, seconds, onObjects } = props;
  const url = tableUrl(route);
  const scroll = useRef<HTMLDivElement>(null);
  const restored = useRef(left.get(url));
  const [scrollTop, setScrollTop] = useState(restored.current?.scrollTop ?? 0);
  const [room, setRoom] = useState({ width: 0, height: window.innerHeight });
  const [rowHeight, setRowHeight] = useState(ROW_HEIGHT);
  const [active, setActive] = useState<Active>({ index: 0, key: restored.current?.key });
  const [all, setAll] = useState(() => localStorage.getItem(ALL_COLUMNS) === "1");

  const shownRows = windowOf(scrollTop, room.height, rowHeight);
  const base = query(definition.kind, route);
  const polled = usePoll<Objects>(`${base}&offset=${shownRows.offset}&limit=${shownRows.limit}&history=1`, seconds);
  const objects = polled.document;
  const isCurrent = polled.path?.startsWith(`${base}&offset=`) === true;

  const widths = useMemo(() => new Widths(), []);
  const sort = objects?.sort ?? route.sort ?? "";
  const placed = useMemo(() => {
    if (objects !== undefined) widths.see(definition.columns, objects.rows);
    return layout(definition.columns, widths, room.width, field(sort), all);
  }, [objects, room.width, sort, all]);
  const columns = useMemo(() => placed.map(({ column }) => column), [placed]);
  const matching = objects?.matching ?? 0;
  const end = Math.min(shownRows.end, matching);
  const first = Math.min(shownRows.first, end);
  const rows = Array.from({ length: end - first }, (_, position) => {
    const index = first + position;
    return { index, row: objects?.rows[index - objects.offset] };
  });

  useEffect(() => {
    if (objects !== undefined) onObjects(objects);
  }, [objects]);

  // Another filter or order begins at the top.
  const last = useRef(url);
  useLayoutEffect(() => {
    if (last.current === url) return;
    last.current = url;
    scroll.current?.scrollTo({ top: 0 });
    setScrollTop(0);
    setActive({ index: 0, key: undefined });
  }, [url]);

  const place = useRef({ scrollTop, key: active.key });
  place.current = { scrollTop, key: active.key };
  useEffect(() => () => void left.set(last.current, place.current), []);

  useLayoutEffect(() => {
    const region = scroll.current;
    if (region === null) return;
    const measure = () => setRoom({ width: region.clientWidth, height: region.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(region);
    measure();
    return () => observer.disconnect();
  }, []);

  useLayoutEffect(() => {
    const height = scroll.current?.querySelector("tbody tr")?.getBoundingClientRect().height;
    if (height !== undefined && height > 0 && Math.abs(height - rowHeight) > 0.01) setRowHeight(height);
  });

  // Back from the page of an object: where it was, with the focus on its row.
  useLayoutEffect(() => {
    if (objects === undefined || !isCurrent || restored.current === undefined) return;
    const { scrollTop: top, key } = restored.current;
    restored.current = undefined;
    scroll.current?.scrollTo({ top });
    if (key !== undefined && document.activeElement === document.body) focusRow(key);
  }, [objects]);

  // The row to focus as soon as it is in the document.
  const wanted = useRef<number>();
  // Whether the focus was last on a row, and nobody moved it elsewhere: the browser drops it with a row that goes.
  const isInRow = useRef(false);
  useEffect(() => {
    const moved = ({ target }: Event) => {
      isInRow.current = target instanceof Element && target.closest("#rows tbody tr") !== null;
      // Whoever went elsewhere is not called back.
      if (!(target instanceof Node && scroll.current?.contains(target))) wanted.current = undefined;
    };
    document.addEventListener("focusin", moved);
    document.addEventListener("pointerdown", moved);
    return () => {
      document.removeEventListener("focusin", moved);
      document.removeEventListener("pointerdown", moved);
    };
  }, []);
  useLayoutEffect(() => {
    if (isInRow.current && document.activeElement === document.body) {
      // The row with the focus has gone: the one that is in its place gets it.
      wanted.current ??= active.index;
      isInRow.current = false;
    }
    if (wanted.current === undefined) return;
    wanted.current = nearest(wanted.current, matching);
    if (wanted.current === undefined) return;
    const link = scroll.current?.querySelector<HTMLElement>(`tr[aria-rowindex="${wanted.current + 2}"] th a`);
    if (link != null) {
      wanted.current = undefined;
      link.focus({ preventScroll: true });
    } else {
      scroll.current?.focus({ preventScroll: true });
    }
  });

  const focusRow = (key: string) =>
    scroll.current?.querySelector<HTMLElement>(`tr[data-key="${CSS.escape(key)}"] th a`)?.focus({ preventScroll: true });

  const moveTo = (target: number) => {
    const region = scroll.current;
    if (region === null || matching === 0) return;
    const index = Math.min(matching - 1, Math.max(0, target));
    const head = region.querySelector("thead")?.clientHeight ?? 0;
    const top = index * rowHeight;
    const bottom = top + rowHeight + head - region.clientHeight;
    const to = Math.min(top, Math.max(bottom, region.scrollTop));
    region.scrollTop = to;
    setScrollTop(region.scrollTop);
    wanted.current = index;
    setActive({ index, key: objects?.rows[index - objects.offset]?.key });
  };

  const onKeyDown = (event: KeyboardEvent) => {
    const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey && !event.shiftKey;
    const isInHead = event.target instanceof Element && event.target.closest("thead") !== null;
    if (!isPlain || isInHead) return;
    const page = Math.max(1, Math.floor(room.height / rowHeight) - 2);
    const isOnRow = event.target !== scroll.current;
    const moves: Record<string, number> = {
      ArrowDown: isOnRow ? active.index + 1 : active.index,
      ArrowUp: active.index - 1,
      PageDown: active.index + page,
      PageUp: active.index - page,
      Home: 0,
      End: matching - 1,
    };
    const target = moves[event.key];
    if (target === undefined) return;
    event.preventDefault();
    moveTo(target);
  };

  // The row that Tab reaches: the last one that had the focus, or the first one in the document.
  const reachable = rows.find(({ row }) => row !== undefined && row.key === active.key) ?? rows.find(({ index }) => index * rowHeight >= scrollTop);
  const width = placed.reduce((sum, column) => sum + column.width, 0);

  const showAll = (value: boolean) => {
    localStorage.setItem(ALL_COLUMNS, value ? "1" : "0");
    setAll(value);
  };

  return (
    <>
      <div class="toolbar">
        <h1 tabIndex={-1}>{definition.title}</h1>
        {objects !== undefined && (
          <p class="summary">
            <span class="figure">{matching === objects.total ? count(matching) : `${count(matching)} of ${count(objects.total)}`}</span>
            {objects.period_seconds !== undefined && <span class="rates">rates over {duration(objects.period_seconds)}</span>}
            {polled.at !== undefined && <Age at={polled.at} seconds={seconds} />}
          </p>
        )}
        <FilterForm
          query={route.query}
          placeholder="Filter, such as xdp or owner:cilium"
          help="Words that a row must have. FIELD:WORD looks in one column, FIELD>NUMBER and FIELD<NUMBER compare, a time by its age: load_time<1h."
          onQuery={(text) => go(tableUrl({ ...parse(location.search), query: text }), { replace: true })}
        >
          <label class="check">
            <input
              type="checkbox"
              checked={route.own}
              onChange={(event) => go(tableUrl({ ...route, own: event.currentTarget.checked }))}
            />
            Exporter's own
          </label>
          <label class="check">
            <input type="checkbox" checked={all} onChange={(event) => showAll(event.currentTarget.checked)} />
            All columns
          </label>
        </FilterForm>
      </div>
      <Announcement query={route.query} objects={isCurrent ? objects : undefined} />
      <Banner polled={polled} />
      <div
        class="scroll"
        ref={scroll}
        tabIndex={0}
        role="region"
        aria-label={definition.title}
        aria-busy={!isCurrent && polled.problem === undefined}
        onScroll={(event) => setScrollTop(event.currentTarget.scrollTop)}
        onKeyDown={onKeyDown}
      >
        <div class="sizer" style={{ paddingTop: `${first * rowHeight}px`, minHeight: `calc(${matching * rowHeight}px + var(--head))` }}>
          <table id="rows" class="table" aria-rowcount={matching + 1} style={{ width: `${Math.max(width, room.width)}px` }}>
            <caption class="hidden">{definition.title}</caption>
            <colgroup>
              {placed.map(({ column, width: each }) => (
                <col key={column.field} style={{ width: `${each}px` }} />
              ))}
            </colgroup>
            <thead>
              <tr aria-rowindex={1}>
                {columns.map((column) => (
                  <Heading key={column.field} column={column} sort={sort} route={route} />
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map(({ index, row }) =>
                row === undefined ? (
                  <tr key={`pending/${index}`} class="pending" aria-rowindex={index + 2}>
                    <td colSpan={columns.length}>
                      <span class="hidden">loading</span>
                    </td>
                  </tr>
                ) : (
                  <TableRow
                    key={row.key}
                    index={index}
                    row={row}
                    columns={columns}
                    isReachable={reachable?.index === index}
                    onFocus={() => {
                      if (active.index !== index || active.key !== row.key) setActive({ index, key: row.key });
                    }}
                  />
                ),
              )}
            </tbody>
          </table>
        </div>
        {objects !== undefined && matching === 0 && (
          <p class="empty">
            {objects.total === 0 ? `There are no ${definition.title.toLowerCase().replace("btf", "BTF")}.` : "Nothing matches the filter."}
          </p>
        )}
      </div>
    </>
  );
}

/** Returns the field of an order. */
function field(sort: string): string {
  return sort.startsWith("-") ? sort.slice(1) : sort;
}

/** Returns the request for a table, without its window. */
function query(kind: string, route: Route): string {
  const parameters = new URLSearchParams({ kind });
  if (route.sort !== undefined) parameters.set("sort", route.sort);
  if (route.query !== "") parameters.set("q", route.query);
  if (!route.own) parameters.set("own", "0");
  return `objects?${parameters}`;
}

/** Says how many rows match when the filter has changed, and nothing when objects come and go. */
function Announcement({ query, objects }: { query: string; objects: Objects | undefined }): VNode {
  const [text, setText] = useState("");
  const last = useRef(query);
  useEffect(() => {
    if (objects === undefined || last.current === query) return;
    last.current = query;
    setText(`${objects.matching} of ${objects.total} rows`);
  }, [objects, query]);
  return (
    <p class="hidden" role="status">
      {text}
    </p>
  );
}

function Heading({ column, sort, route }: { column: Column; sort: string; route: Route }): VNode {
  const isSorted = field(sort) === column.field;
  const isReversed = sort.startsWith("-");
  // Numbers and times are in descending order at first, texts in ascending order.
  const direction = column.is_numeric === isReversed ? "ascending" : "descending";
  const next = isSorted && !isReversed ? `-${column.field}` : column.field;
  return (
    <th
      scope="col"
      data-field={column.field}
      class={column.is_numeric ? "number" : ""}
      title={column.help}
      aria-sort={isSorted ? direction : "none"}
    >
      <button type="button" onClick={() => go(tableUrl({ ...route, sort: next }))}>
        <span>{column.title}</span>
      </button>
    </th>
  );
}

function TableRow(props: {
  index: number;
  row: Row;
  columns: readonly Column[];
  isReachable: boolean;
  onFocus: () => void;
}): VNode {
  const { index, row, columns, isReachable, onFocus } = props;
  const tabIndex = isReachable ? 0 : -1;
  // Scrolling changes which rows there are, and not what is in them: the same cells are not compared again.
  const cells = useMemo(() => <RowCells row={row} columns={columns} tabIndex={tabIndex} />, [row, columns, tabIndex]);
  return (
    <tr data-key={row.key} class={row.exporter_own === true ? "own" : ""} aria-rowindex={index + 2} onFocusIn={onFocus}>
      {cells}
    </tr>
  );
}

/** The cells of a row, the first of which names it. */
export function RowCells(props: { row: Row; columns: readonly Column[]; tabIndex?: number }): VNode {
  const { row, columns, tabIndex } = props;
  const focus = tabIndex === undefined ? {} : { tabIndex };
  return (
    <>
      {columns.map((column, position) => {
        const name = column.is_numeric ? "number" : "";
        if (position === 0) {
          return (
            <th key={column.field} scope="row" class={name} title={full(row, column)}>
              <KeyLink to={row.key} {...focus} children={textOf(row, column) || row.key} />
              {row.exporter_own === true && <span class="hidden"> (the exporter's own)</span>}
            </th>
          );
        }
        return (
          <td key={column.field} class={name} title={full(row, column)}>
            <Cell row={row} column={column} {...focus} />
          </td>
        );
      })}
    </>
  );
}
