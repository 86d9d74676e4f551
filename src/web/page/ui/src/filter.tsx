// The field that filters while somebody types. Entry point: `FilterForm`.

import type { ComponentChildren, VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { textFor } from "./text";

/** How long it waits for another key, in milliseconds. */
const TYPING = 150;

/** The longest filter that the server takes, in characters. */
const LONGEST = 256;

export function FilterForm(props: {
  query: string;
  placeholder: string;
  help: string;
  onQuery: (text: string) => void;
  /** What stands beside it. */
  children: ComponentChildren;
}): VNode {
  const { query, placeholder, help, onQuery, children } = props;
  const [typed, setTyped] = useState(query);
  const timer = useRef<number>();
  // The back button changes it as well, but not under the hands of somebody who types.
  useEffect(() => {
    if (timer.current === undefined) setTyped((last) => textFor(query, last));
  }, [query]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const apply = (text: string) => {
    clearTimeout(timer.current);
    timer.current = undefined;
    onQuery(text.trim());
  };
  const type = (text: string) => {
    setTyped(text);
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => apply(text), TYPING);
  };
  return (
    <form
      id="filter"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        apply(typed);
      }}
    >
      <input
        type="search"
        name="q"
        aria-label="Filter"
        aria-keyshortcuts="/"
        placeholder={placeholder}
        title={help}
        maxLength={LONGEST}
        autocomplete="off"
        spellcheck={false}
        value={typed}
        onInput={(event) => type(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          event.preventDefault();
          if (typed === "") event.currentTarget.blur();
          else type("");
        }}
      />
      {children}
    </form>
  );
}
