// The state of the page is its URL: the same parameters as without the script. Entry points: `useRoute` and `go`.

import { useEffect, useState } from "preact/hooks";

export interface Route {
  readonly tab: string;
  /** The object whose page it is. */
  readonly key: string | undefined;
  readonly sort: string | undefined;
  readonly query: string;
  readonly own: boolean;
}

export function parse(search: string): Route {
  const parameters = new URLSearchParams(search);
  return {
    tab: parameters.get("tab") ?? "programs",
    key: parameters.get("key") ?? undefined,
    sort: parameters.get("sort") ?? undefined,
    query: parameters.get("q") ?? "",
    own: parameters.get("own") !== "0",
  };
}

/** Returns the URL of a table. */
export function tableUrl(route: Pick<Route, "tab" | "sort" | "query" | "own">): string {
  const parameters = new URLSearchParams({ tab: route.tab });
  if (route.sort !== undefined) parameters.set("sort", route.sort);
  if (route.query !== "") parameters.set("q", route.query);
  if (!route.own) parameters.set("own", "0");
  return `?${parameters}`;
}

/** Returns the URL of an object's page. */
export function keyUrl(key: string): string {
  return `?key=${encodeURIComponent(key).replaceAll("%2F", "/")}`;
}

const changed = new EventTarget();

/** Goes to a URL of this page; `replace` leaves no step to go back to. */
export function go(url: string, { replace = false } = {}): void {
  const target = new URL(url, document.baseURI);
  if (target.href === location.href) return;
  history[replace ? "replaceState" : "pushState"](null, "", target);
  changed.dispatchEvent(new Event("route"));
}

/** Returns where the page is, and again when that changes. */
export function useRoute(): Route {
  const [search, setSearch] = useState(location.search);
  useEffect(() => {
    const update = () => setSearch(location.search);
    window.addEventListener("popstate", update);
    changed.addEventListener("route", update);
    return () => {
      window.removeEventListener("popstate", update);
      changed.removeEventListener("route", update);
    };
  }, []);
  return parse(search);
}

/** Follows links to this page without loading it again. */
export function followLinks(): void {
  document.addEventListener("click", (event) => {
    const isPlain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!isPlain || link === null || event.defaultPrevented || link.target !== "") return;
    const url = new URL(link.href, document.baseURI);
    if (url.origin !== location.origin || url.pathname !== location.pathname || url.hash !== "") return;
    event.preventDefault();
    go(url.href);
  });
}
