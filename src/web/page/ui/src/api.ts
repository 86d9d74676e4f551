// The documents of the API, as docs/api.md has them, and how they are fetched.

/** Version of the documents that this page reads. */
export const SCHEMA_VERSION = 1;

export type Refers = "program" | "map" | "link" | "btf" | "owner";

export interface Column {
  readonly field: string;
  readonly title: string;
  readonly help: string;
  readonly unit: string;
  readonly rank: number;
  readonly is_numeric: boolean;
  readonly refers?: Refers;
  readonly owner_kind?: string;
  readonly has_history?: boolean;
}

export interface TableDefinition {
  readonly kind: string;
  readonly title: string;
  readonly columns: readonly Column[];
}

export interface Tables {
  readonly tables: readonly TableDefinition[];
  readonly event_kinds: readonly string[];
}

export type Value = string | number | boolean | readonly number[];

export type History = Readonly<Record<string, readonly (number | null)[]>>;

export interface Row {
  readonly key: string;
  readonly exporter_own?: boolean;
  readonly history?: History;
  readonly [field: string]: Value | History | undefined;
}

export type Counts = Readonly<Record<string, number>>;

export interface Objects {
  readonly kind: string;
  readonly taken_at: string;
  readonly period_seconds?: number;
  readonly total: number;
  readonly matching: number;
  readonly offset: number;
  readonly sort: string;
  readonly counts: Counts;
  readonly history_seconds: number;
  readonly rows: readonly Row[];
}

export interface Fact {
  readonly name: string;
  readonly help: string;
  readonly unit: string;
  readonly value: Value;
  readonly key?: string;
}

export interface Section {
  readonly title: string;
  /** How many values there are, of which the first were sent. */
  readonly total: number;
  readonly values: readonly (readonly Fact[])[];
}

export interface Related {
  readonly kind: string;
  readonly title: string;
  readonly matching: number;
  readonly rows: readonly Row[];
}

export interface ObjectDocument {
  readonly key: string;
  readonly kind: string;
  readonly title: string;
  readonly taken_at: string;
  readonly period_seconds?: number;
  readonly row?: Row;
  readonly sections: readonly Section[];
  readonly related: readonly Related[];
  readonly history_seconds: number;
}

export interface Feature {
  readonly name: string;
  readonly state: "works" | "missing" | "off";
  readonly about?: string;
  readonly reason?: string;
  readonly needs?: string;
}

export interface Setting {
  readonly name: string;
  readonly value: string;
  readonly origin: string;
}

export interface Status {
  readonly version: string;
  readonly taken_at: string;
  readonly ready: boolean;
  readonly sections: readonly Section[];
  readonly features: readonly Feature[];
  readonly settings: readonly Setting[];
}

/** Why there is no document. */
export class Problem extends Error {
  constructor(
    message: string,
    /** Status of the answer; 0 without an answer. */
    readonly status: number,
  ) {
    super(message);
  }

  /** Whether it is about the request, so that the same request has no other answer for now. */
  get isFinal(): boolean {
    return this.status === 400 || this.status === 404;
  }
}

const TIMEOUT = 20_000;

/** Fetches a document of the API. */
export async function get<T>(path: string, end?: AbortSignal): Promise<T> {
  const signals = [AbortSignal.timeout(TIMEOUT), ...(end === undefined ? [] : [end])];
  let answer: Response;
  let text: string;
  try {
    // The browser compares it with what it has, and hands that out if it is still the newest.
    answer = await fetch(new URL(`api/v1/${path}`, document.baseURI), {
      cache: "no-cache",
      signal: AbortSignal.any(signals),
    });
    text = await answer.text();
  } catch (error) {
    throw end?.aborted === true ? error : new Problem("The exporter does not answer", 0);
  }
  if (answer.status === 401) throw new Problem("The exporter demands a password: reload the page", 401);
  if (!answer.ok) throw new Problem(text.trim() || `The exporter answers with status ${answer.status}`, answer.status);
  let parsed: T & { readonly schema_version?: number };
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new Problem("The exporter's answer is incomplete", 0);
  }
  if (parsed.schema_version !== SCHEMA_VERSION) throw new Problem("The exporter has another version by now: reload the page", 0);
  return parsed;
}
