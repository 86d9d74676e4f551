// What is wrong, and how old what is shown is. Entry points: `Banner` and `Age`.

import type { VNode } from "preact";
import { ago, date } from "./human";
import { type Polled, useNow } from "./poll";

/** Says that the exporter does not answer, for as long as that is so. */
export function Banner({ polled }: { polled: Polled<{ readonly taken_at: string }> }): VNode {
  const { problem, document: last } = polled;
  return (
    <div class="banner" role="status">
      {problem !== undefined && (
        <p>
          <strong>{sentence(problem.message)}</strong> {last !== undefined && <>Below is the reading of {date(last.taken_at)}. </>}
          Trying again.
        </p>
      )}
    </div>
  );
}

/** Returns a message as a sentence. */
function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** How long ago a reading was received. */
export function Age({ at, seconds }: { at: number; seconds: number }): VNode {
  const age = useNow() - at;
  // One more second is for the request.
  const isOld = age > (3 * seconds + 1) * 1000;
  return <span class={isOld ? "age old" : "age"}>read {age < 1000 ? "now" : ago(age)}</span>;
}
