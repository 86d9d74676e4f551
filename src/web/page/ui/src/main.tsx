// The page: takes over what the server made, and keeps it live. It runs in a module script, hence after the document is there.

import { render, type VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type Counts, get, type Tables } from "./api";
import { EventsView } from "./events";
import { addThemeSwitch, showCounts, showTab } from "./header";
import { addKeys } from "./keys";
import { ObjectView } from "./object";
import { onRecovery } from "./poll";
import { followLinks, useRoute } from "./route";
import { StatusView } from "./status";
import { TableView } from "./table";
import { begin } from "./takeover";
import { visible } from "./text";

const { poll, host } = document.body.dataset;
const SECONDS = Number(poll) || 2;

function View({ tables }: { tables: Tables }): VNode {
  const route = useRoute();
  const definition = tables.tables.find((table) => table.kind === route.tab);
  const tab = route.key === undefined ? route.tab : "object";
  const title = route.key ?? definition?.title ?? (tab === "events" ? "Events" : "Exporter");
  useEffect(() => {
    showTab(tab);
    document.title = `${visible(title)} - bpf-metrics-exporter on ${host ?? location.hostname}`;
  }, [tab, title]);
  if (route.key !== undefined) return <ObjectView key={route.key} name={route.key} tables={tables} seconds={SECONDS} />;
  if (route.tab === "events") return <EventsView route={route} kinds={tables.event_kinds} />;
  if (definition === undefined) return <StatusView />;
  const onObjects = ({ counts }: { counts: Counts }) => showCounts(counts);
  return <TableView key={definition.kind} route={route} definition={definition} seconds={SECONDS} onObjects={onObjects} />;
}

/** Gets the columns of the tables. They change with the exporter's version only: after an outage, it may be another one. */
function App(): VNode | null {
  const [tables, setTables] = useState<Tables>();
  useEffect(() => {
    let timer: number | undefined;
    const load = () => {
      clearTimeout(timer);
      get<Tables>("tables").then(setTables, () => {
        // What the server made stays readable.
        timer = window.setTimeout(load, SECONDS * 1000);
      });
    };
    load();
    return onRecovery(load);
  }, []);
  return tables === undefined ? null : <View tables={tables} />;
}

const main = document.querySelector("main");
if (main !== null) {
  addThemeSwitch();
  addKeys();
  followLinks();
  render(<App />, begin(main));
}
