// Events as they happen. Entry point: `EventsView`.

import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { KeyLink } from "./cells";
import { FilterForm } from "./filter";
import { date } from "./human";
import { go, parse, type Route, tableUrl } from "./route";
import { ready } from "./takeover";
import { visible } from "./text";

/** Events that are shown. */
const MOST = 300;

interface Identity {
  readonly process?: { readonly pid: number; readonly name: string } | null;
  readonly container?: { readonly id: string; readonly name?: string | null } | null;
  readonly pod?: { readonly namespace?: string | null; readonly name?: string | null; readonly uid: string } | null;
  readonly unit?: string | null;
  readonly pin?: string | null;
  readonly bpffs?: string | null;
  readonly group?: { readonly name: string } | null;
}

/** What something is attached to: its kind, and what names it. */
interface Target {
  readonly kind: string;
  readonly [field: string]: unknown;
}

interface BpfEvent {
  readonly number: number;
  readonly kind: string;
  readonly at: string;
  readonly severity: string;
  readonly subject: {
    readonly kind?: string | null;
    readonly id?: number | null;
    readonly name?: string | null;
    readonly type?: string | null;
    readonly prog_id?: number | null;
    readonly hook?: string | null;
    readonly target?: Target | null;
    readonly path?: string | null;
  };
  readonly actor?: { readonly pid: number; readonly executable?: string | null; readonly identity?: Identity | null } | null;
  readonly owner?: Identity | null;
}

/** A line: an event, or a number of events that were missed. */
type Line = { readonly event: BpfEvent; readonly text: string } | { readonly missed: number; readonly number: number };

type State = "connecting" | "open" | "lost";

function ownerName(owner: Identity | null | undefined): string {
  if (owner == null) return "";
  if (owner.group != null) return owner.group.name;
  if (owner.pod?.name != null) return `${owner.pod.namespace ?? ""}/${owner.pod.name}`;
  const name = owner.container?.name ?? owner.unit ?? owner.process?.name ?? owner.container?.id;
  return name ?? owner.pin ?? owner.bpffs ?? "";
}

function processName({ actor }: BpfEvent): string {
  if (actor == null) return "";
  const name = actor.identity?.process?.name ?? actor.executable?.split("/").at(-1) ?? "";
  return `${name}[${actor.pid}]`;
}

/** Returns the name of a target: its own, that of its device or symbol, or its kind and number. */
function targetText(target: Target): string {
  const named = [target, target["device"], target["symbol"], target["single"]] as readonly (Target | null | undefined)[];
  const names = named.flatMap((part) => [part?.["name"], part?.["path"]]);
  const name = names.find((text) => typeof text === "string");
  const numbers = ["id", "ifindex", "inode", "index", "count"].map((field) => target[field]);
  const number = numbers.find((each) => typeof each === "number") ?? "";
  const group = target["group"];
  return typeof name === "string" ? (typeof group === "string" ? `${group}:${name}` : name) : `${target.kind} ${number}`.trim();
}

function targetName({ subject }: BpfEvent): string {
  const target = subject.target == null ? "" : targetText(subject.target);
  return subject.path ?? [subject.hook ?? "", target].join(" ").trim();
}

function useEvents(kinds: readonly string[], isPaused: boolean): { lines: readonly Line[]; state: State } {
  const [lines, setLines] = useState<readonly Line[]>([]);
  const [state, setState] = useState<State>("connecting");
  const [isHidden, setHidden] = useState(document.hidden);
  useEffect(() => {
    const update = () => setHidden(document.hidden);
    document.addEventListener("visibilitychange", update);
    return () => document.removeEventListener("visibilitychange", update);
  }, []);
  useEffect(() => {
    if (isPaused || isHidden) return;
    let source: EventSource | undefined;
    let timer: number | undefined;
    let waiting: Line[] = [];
    let frame: number | undefined;
    // Many events that come together are one change of the page.
    const add = (line: Line) => {
      waiting.push(line);
      frame ??= requestAnimationFrame(() => {
        const added = waiting.reverse();
        waiting = [];
        frame = undefined;
        setLines((last) => [...added, ...last].slice(0, MOST));
      });
    };
    const connect = () => {
      source = new EventSource(new URL(`api/v1/events?history=${MOST}`, document.baseURI));
      source.onopen = () => {
        setState("open");
        // The history comes again.
        waiting = [];
        setLines([]);
      };
      source.onerror = () => {
        setState("lost");
        source?.close();
        timer = window.setTimeout(connect, 2000);
      };
      for (const kind of kinds) {
        source.addEventListener(kind, (message: MessageEvent<string>) => {
          const event: BpfEvent = JSON.parse(message.data);
          const words = [event.kind, event.subject.kind, event.subject.id, event.subject.name, event.subject.type, ownerName(event.owner), processName(event), targetName(event)];
          add({ event, text: words.join(" ").toLowerCase() });
        });
      }
      source.addEventListener("missed", (message: MessageEvent<string>) => {
        add({ missed: JSON.parse(message.data).count, number: Number(message.lastEventId) });
      });
    };
    connect();
    return () => {
      source?.close();
      clearTimeout(timer);
      if (frame !== undefined) cancelAnimationFrame(frame);
    };
  }, [kinds, isPaused, isHidden]);
  return { lines, state };
}

export function EventsView({ route, kinds }: { route: Route; kinds: readonly string[] }): VNode {
  const [isPaused, setPaused] = useState(false);
  const { lines, state } = useEvents(kinds, isPaused);
  useEffect(ready, []);
  const words = route.query.toLowerCase().split(/\s+/).filter((word) => word !== "");
  const selected = lines.filter((line) => "missed" in line || words.every((word) => line.text.includes(word)));
  return (
    <>
      <div class="toolbar">
        <h1 tabIndex={-1}>Events</h1>
        <p class="summary">
          <span class="figure">
            {words.length === 0 ? lines.length : `${selected.length} of ${lines.length}`}
          </span>
          <span class={`state ${isPaused ? "off" : state === "open" ? "works" : "missing"}`}>
            {isPaused ? "paused" : state === "open" ? "live" : state === "lost" ? "connection lost" : "connecting"}
          </span>
        </p>
        <FilterForm
          query={route.query}
          placeholder="Filter, such as program.load"
          help="Words that an event must have."
          onQuery={(text) => go(tableUrl({ ...parse(location.search), query: text }), { replace: true })}
        >
          <button type="button" aria-pressed={isPaused} onClick={() => setPaused(!isPaused)}>
            Pause
          </button>
        </FilterForm>
      </div>
      <div class="scroll" tabIndex={0} role="region" aria-label="Events">
        <table id="rows" class="table events">
          <caption class="hidden">Events, the newest first</caption>
          <thead>
            <tr>
              <th scope="col">Time</th>
              <th scope="col">Event</th>
              <th scope="col">Object</th>
              <th scope="col">Name</th>
              <th scope="col">Type</th>
              <th scope="col">Process</th>
              <th scope="col">Owner</th>
              <th scope="col">Where</th>
            </tr>
          </thead>
          <tbody>
            {selected.map((line) =>
              "missed" in line ? (
                <tr key={`missed/${line.number}`}>
                  <td colSpan={8}>{line.missed} events were missed</td>
                </tr>
              ) : (
                <EventRow key={line.event.number} event={line.event} />
              ),
            )}
          </tbody>
        </table>
        {selected.length === 0 && state === "open" && (
          <p class="empty">{lines.length === 0 ? "Nothing has happened yet." : "Nothing matches the filter."}</p>
        )}
      </div>
    </>
  );
}

function EventRow({ event }: { event: BpfEvent }): VNode {
  const { subject } = event;
  const kind = subject.kind ?? "";
  const hasPage = ["program", "map", "link", "btf"].includes(kind) && subject.id != null;
  const label = subject.id == null ? kind : `${kind} ${subject.id}`;
  return (
    <tr class={event.severity === "INFO" ? "" : "warned"}>
      <td class="time" title={event.at}>
        {date(event.at).slice(0, 19)}
      </td>
      <th scope="row">{event.kind.replace("bpf.", "")}</th>
      <td>{hasPage ? <KeyLink to={`${kind}/${subject.id}`} children={label} /> : label}</td>
      <td>{visible(subject.name ?? "")}</td>
      <td>{visible(subject.type ?? "")}</td>
      <td>{visible(processName(event))}</td>
      <td>{visible(ownerName(event.owner))}</td>
      <td>{visible(targetName(event))}</td>
    </tr>
  );
}
