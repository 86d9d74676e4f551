// A document of the API that is fetched again and again while somebody looks. Entry point: `usePoll`.

import { useEffect, useRef, useState } from "preact/hooks";
import { get, Problem } from "./api";
import { ready } from "./takeover";

interface Taken {
  readonly taken_at: string;
  readonly period_seconds?: number;
}

/** The last document, and what is wrong by now. */
export interface Polled<T> {
  readonly document?: T;
  /** What was fetched. */
  readonly path?: string;
  /** When it was first received, in milliseconds of `Date.now`. */
  readonly at?: number;
  readonly problem?: Problem;
}

const outages = new EventTarget();

/** Calls a function each time that the exporter answers again, and returns how to end that. */
export function onRecovery(call: () => void): () => void {
  outages.addEventListener("end", call);
  return () => outages.removeEventListener("end", call);
}

/** The longest time between two attempts after a failure, in seconds. */
const LONGEST_WAIT = 10;

/**
 * Fetches a document now, each time that `path` changes, and then every so many seconds. It stops while the page is hidden. One
 * request runs at a time: a table that is scrolled fast skips what is not looked at.
 */
export function usePoll<T extends Taken>(path: string, seconds: number): Polled<T> {
  const [polled, setPolled] = useState<Polled<T>>({});
  const loop = useRef<Loop<T>>();
  useEffect(() => {
    const started = new Loop<T>(seconds, setPolled);
    loop.current = started;
    return () => started.stop();
  }, [seconds]);
  useEffect(() => loop.current?.want(path), [path]);
  useEffect(() => {
    if (polled.document !== undefined || polled.problem !== undefined) ready();
  }, [polled]);
  return polled;
}

class Loop<T extends Taken> {
  #path: string | undefined;
  #timer: number | undefined;
  #isBusy = false;
  #failures = 0;
  #hasFailed = false;
  readonly #end = new AbortController();

  constructor(
    readonly seconds: number,
    readonly update: (change: (last: Polled<T>) => Polled<T>) => void,
  ) {
    const { signal } = this.#end;
    document.addEventListener("visibilitychange", () => this.#now(), { signal });
    window.addEventListener("online", () => this.#now(), { signal });
  }

  want(path: string): void {
    this.#path = path;
    this.#failures = 0;
    this.#now();
  }

  stop(): void {
    this.#end.abort();
    clearTimeout(this.#timer);
  }

  #now(): void {
    clearTimeout(this.#timer);
    if (!this.#isBusy && !document.hidden && !this.#end.signal.aborted) void this.#fetch();
  }

  async #fetch(): Promise<void> {
    const path = this.#path;
    if (path === undefined) return;
    this.#isBusy = true;
    let wait = this.seconds;
    try {
      const found = await get<T>(path, this.#end.signal);
      if (this.#hasFailed) outages.dispatchEvent(new Event("end"));
      this.#hasFailed = false;
      this.#failures = 0;
      this.update((last) => {
        const isSame = last.document?.taken_at === found.taken_at;
        return { document: found, path, at: (isSame ? last.at : undefined) ?? Date.now() };
      });
      // Rates need a second reading.
      if ("rows" in found && found.period_seconds === undefined) wait = Math.min(1, wait);
    } catch (error) {
      if (this.#end.signal.aborted) return;
      const problem = error instanceof Problem ? error : new Problem(String(error), 0);
      this.#failures += 1;
      this.#hasFailed ||= problem.status === 0;
      wait = Math.min(this.seconds * 2 ** (this.#failures - 1), LONGEST_WAIT);
      this.update((last) => ({ ...last, problem, ...(problem.isFinal ? { path } : {}) }));
    } finally {
      this.#isBusy = false;
    }
    if (this.#end.signal.aborted) return;
    if (this.#path !== path) this.#now();
    else this.#timer = window.setTimeout(() => this.#now(), wait * 1000);
  }
}

/** Returns the time, again every second. */
export function useNow(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}
