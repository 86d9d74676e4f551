// The page of one object: everything that is known of it, and what belongs to it. Entry point: `ObjectView`.

import type { VNode } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Column, ObjectDocument, Related, Row, TableDefinition, Tables } from "./api";
import { Age, Banner } from "./banner";
import { KeyLink, shown, valueOf } from "./cells";
import { Sections } from "./facts";
import { Graph } from "./graph";
import { duration } from "./human";
import { usePoll } from "./poll";
import { RowCells } from "./table";
import { visible } from "./text";

/** Columns of the highest rank that are figures at the top, and columns of related tables. */
const FIGURE_RANK = 3;
const RELATED_RANK = 2;

export function ObjectView({ name, tables, seconds }: { name: string; tables: Tables; seconds: number }): VNode {
  const polled = usePoll<ObjectDocument>(`object?key=${encodeURIComponent(name)}`, seconds);
  const found = polled.document?.key === name ? polled.document : undefined;
  const isGone = polled.problem?.status === 404;
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus({ preventScroll: true }), [name]);
  const definition = tables.tables.find((table) => table.kind === found?.kind);
  const title = found?.title ?? name;
  return (
    <div class="sheet">
      <div class="toolbar">
        <h1 tabIndex={-1} ref={heading}>
          {visible(title)}
        </h1>
        {found !== undefined && !isGone && (
          <p class="summary">
            {typeof found.row?.["name"] === "string" && <span class="figure">{visible(found.row["name"])}</span>}
            {found.period_seconds !== undefined && <span class="rates">rates over {duration(found.period_seconds)}</span>}
            {polled.at !== undefined && <Age at={polled.at} seconds={seconds} />}
          </p>
        )}
      </div>
      {isGone ? (
        <div class="banner" role="status">
          <p>
            <strong>{found === undefined ? "There is no such object" : "It no longer exists"}.</strong>{" "}
            {found !== undefined && "Below is what was known of it last."}
          </p>
        </div>
      ) : (
        <Banner polled={polled} />
      )}
      {found !== undefined && (
        <>
          {found.row !== undefined && definition !== undefined && (
            <Summary row={found.row} definition={definition} seconds={found.history_seconds} />
          )}
          {found.related.map((related) => (
            <RelatedTable key={related.kind} related={related} tables={tables} />
          ))}
          <Sections sections={found.sections} />
        </>
      )}
    </div>
  );
}

function Summary({ row, definition, seconds }: { row: Row; definition: TableDefinition; seconds: number }): VNode {
  const known = definition.columns.filter((column) => valueOf(row, column.field) !== undefined);
  const figures = known.filter((column) => column.unit !== "" && column.rank <= FIGURE_RANK);
  const words = known.filter((column) => column.unit === "" && column.rank <= FIGURE_RANK && !Array.isArray(row[column.field]) && !["id", "name"].includes(column.field));
  const graphs = definition.columns.filter((column) => (row.history?.[column.field]?.filter((point) => point !== null).length ?? 0) > 1);
  return (
    <div class="overview">
      <dl class="words">
        {row.exporter_own === true && (
          <div>
            <dt>Belongs to</dt>
            <dd>the exporter itself</dd>
          </div>
        )}
        {words.map((column) => (
          <div key={column.field} class={String(row[column.field]).length > 40 ? "long" : ""}>
            <dt title={column.help}>{column.title}</dt>
            <dd>
              <Word row={row} column={column} />
            </dd>
          </div>
        ))}
      </dl>
      {figures.length > 0 && (
        <dl class="figures">
          {figures.map((column) => (
            <div key={column.field}>
              <dt title={column.help}>{column.title}</dt>
              <dd>{shown(valueOf(row, column.field), column.unit)}</dd>
            </div>
          ))}
        </dl>
      )}
      {graphs.length > 0 && (
        <div class="graphs">
          {graphs.map((column) => (
            <Graph
              key={column.field}
              title={column.title}
              points={row.history?.[column.field] ?? []}
              unit={column.unit}
              seconds={seconds}
              {...(column.field === "fill_ratio" ? { top: 1 } : {})}
            />
          ))}
        </div>
      )}
    </div>
  );
}

function Word({ row, column }: { row: Row; column: Column }): VNode {
  const value = valueOf(row, column.field);
  const text = shown(value, column.unit);
  const kind = column.owner_kind === undefined ? undefined : row[column.owner_kind];
  const to =
    column.refers === undefined
      ? undefined
      : column.refers === "owner"
        ? typeof kind === "string" && `owner/${kind}/${value}`
        : `${column.refers}/${value}`;
  return typeof to !== "string" || to === row.key ? <>{text}</> : <KeyLink to={to} children={text} />;
}

function RelatedTable({ related, tables }: { related: Related; tables: Tables }): VNode {
  const all = tables.tables.find((table) => table.kind === related.kind)?.columns ?? [];
  const columns = all.filter((column, index) => {
    const isKnown = related.rows.some((row) => valueOf(row, column.field) !== undefined);
    return isKnown && (index === 0 || column.rank <= RELATED_RANK);
  });
  const id = `related-${related.kind}`;
  return (
    <section class="facts wide" aria-labelledby={id}>
      <h2 id={id}>
        {related.title} <span class="count">{related.matching}</span>
      </h2>
      <div class="sideways" tabIndex={0} role="group" aria-labelledby={id}>
        <table class="table">
          <thead>
            <tr>
              {columns.map((column) => (
                <th key={column.field} scope="col" class={column.is_numeric ? "number" : ""} title={column.help}>
                  {column.title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {related.rows.map((row) => (
              <tr key={row.key} data-key={row.key} class={row.exporter_own === true ? "own" : ""}>
                <RowCells row={row} columns={columns} />
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {related.matching > related.rows.length && <p class="note">the first {related.rows.length} of {related.matching}</p>}
    </section>
  );
}
