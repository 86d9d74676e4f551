// Values of a table and of an object. Entry points: `Cell` and `shown`.

import type { ComponentChildren, VNode } from "preact";
import type { Column, Row, Value } from "./api";
import { Bar, Sparkline } from "./graph";
import { date, number } from "./human";
import { keyUrl } from "./route";
import { visible } from "./text";

/** Ids that a cell shows; the page of the object has the rows of more. */
const IDS = 3;

const RFC3339 = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/;

/** Returns a value as text. */
export function shown(value: Value | undefined, unit: string): string {
  switch (typeof value) {
    case "undefined":
      return "";
    case "boolean":
      return value ? "yes" : "no";
    case "number":
      // Without a unit it is a name: an id, a user, flags.
      return unit === "" ? String(value) : number(value, unit);
    case "string":
      return RFC3339.test(value) ? date(value) : visible(value);
    default:
      return value.join(", ");
  }
}

/** Returns the value of a field. */
export function valueOf(row: Row, field: string): Value | undefined {
  const value = row[field];
  return typeof value === "object" && !Array.isArray(value) ? undefined : (value as Value | undefined);
}

/** Returns how many ids a cell has, of which the first were sent. */
function total(row: Row, field: string, ids: readonly number[]): number {
  const all = row[`${field}_total`];
  return typeof all === "number" ? all : ids.length;
}

/** Returns ids as text, the first of them and how many more there are. */
function idsOf(row: Row, field: string, ids: readonly number[], most: number): string {
  const first = ids.slice(0, most);
  const more = total(row, field, ids) - first.length;
  return more > 0 ? `${first.join(", ")} +${more}` : first.join(", ");
}

/** Returns what a cell may cut, for a pointer that rests on it. */
export function full(row: Row, column: Column): string | undefined {
  const value = valueOf(row, column.field);
  if (typeof value === "object") return idsOf(row, column.field, value, value.length);
  return typeof value === "string" ? shown(value, column.unit) : undefined;
}

/** Returns a cell as text: what it is as wide as, and what is shown in full on demand. */
export function textOf(row: Row, column: Column): string {
  const value = valueOf(row, column.field);
  if (typeof value === "object") return idsOf(row, column.field, value, IDS);
  return shown(value, column.unit);
}

/** Returns the key of what a value names. */
function refersTo(row: Row, column: Column, value: string | number): string | undefined {
  if (column.refers === undefined) return undefined;
  if (column.refers !== "owner") return `${column.refers}/${value}`;
  const kind = column.owner_kind === undefined ? undefined : row[column.owner_kind];
  return typeof kind === "string" ? `owner/${kind}/${value}` : undefined;
}

export function KeyLink(props: { to: string; children: ComponentChildren; tabIndex?: number }): VNode {
  const { to, children, tabIndex } = props;
  return (
    <a href={keyUrl(to)} {...(tabIndex === undefined ? {} : { tabIndex })}>
      {children}
    </a>
  );
}

/** What a cell contains. */
export function Cell({ row, column, tabIndex }: { row: Row; column: Column; tabIndex?: number }): ComponentChildren {
  const value = valueOf(row, column.field);
  if (value === undefined) return null;
  const focus = tabIndex === undefined ? {} : { tabIndex };
  if (typeof value === "object") {
    const links = value.slice(0, IDS).map((id, index) => {
      const to = refersTo(row, column, id);
      return (
        <>
          {index > 0 && ", "}
          {to === undefined ? id : <KeyLink to={to} {...focus} children={id} />}
        </>
      );
    });
    const more = total(row, column.field, value) - links.length;
    return [...links, more > 0 && <span class="more"> +{more}</span>];
  }
  const text = shown(value, column.unit);
  if (typeof value !== "boolean") {
    const to = refersTo(row, column, value);
    if (to !== undefined) return <KeyLink to={to} {...focus} children={text} />;
  }
  const points = row.history?.[column.field];
  const isFill = column.field === "fill_ratio" && typeof value === "number";
  if (points === undefined && !isFill) return text;
  return (
    <>
      {points !== undefined && <Sparkline points={points} {...(isFill ? { top: 1 } : {})} />}
      {isFill && <Bar ratio={value} />}
      <span class="value">{text}</span>
    </>
  );
}

/** Returns the width that a cell needs beside its text, in pixels. */
export function decoration(column: Column): number {
  return (column.has_history === true ? 80 : 0) + (column.field === "fill_ratio" ? 56 : 0);
}
