// The exporter itself: destinations, collectors, features and settings. Entry point: `StatusView`.

import type { VNode } from "preact";
import type { Feature, Setting, Status } from "./api";
import { Age, Banner } from "./banner";
import { Sections } from "./facts";
import { usePoll } from "./poll";
import { visible } from "./text";

/** How often the state is fetched, in seconds. */
const SECONDS = 5;

export function StatusView(): VNode {
  const polled = usePoll<Status>("status", SECONDS);
  const status = polled.document;
  return (
    <div class="sheet">
      <div class="toolbar">
        <h1 tabIndex={-1}>Exporter</h1>
        {status !== undefined && (
          <p class="summary">
            <span class="figure">{status.version}</span>
            <span class={`state ${status.ready ? "works" : "missing"}`}>{status.ready ? "ready" : "not ready"}</span>
            {polled.at !== undefined && <Age at={polled.at} seconds={SECONDS} />}
          </p>
        )}
      </div>
      <Banner polled={polled} />
      {status !== undefined && (
        <>
          <Features features={status.features} />
          <Sections sections={status.sections.filter(({ title }) => title !== "Features")} />
          <Settings settings={status.settings} />
        </>
      )}
    </div>
  );
}

/** What is missing comes first: that is what one looks for. */
const STATES: readonly Feature["state"][] = ["missing", "works", "off"];

function Features({ features }: { features: readonly Feature[] }): VNode {
  const ordered = STATES.flatMap((state) => features.filter((feature) => feature.state === state));
  return (
    <section class="facts wide" aria-labelledby="features">
      <h2 id="features">Features</h2>
      <ul class="features">
        {ordered.map((feature) => (
          <li key={feature.name}>
            <span class={`state ${feature.state}`}>{feature.state}</span>
            <div>
              <strong>{visible(feature.name)}</strong>
              {feature.about !== undefined && <span>{visible(feature.about)}</span>}
              {feature.reason !== undefined && <p>{visible(feature.reason)}</p>}
              {feature.state !== "works" && feature.needs !== undefined && <p>Needs {visible(feature.needs)}</p>}
            </div>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Settings({ settings }: { settings: readonly Setting[] }): VNode {
  return (
    <section class="facts wide" aria-labelledby="settings">
      <h2 id="settings">Settings</h2>
      <div class="sideways" tabIndex={0} role="group" aria-labelledby="settings">
        <table class="table settings">
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">Value</th>
              <th scope="col">From</th>
            </tr>
          </thead>
          <tbody>
            {settings.map((setting, index) => (
              <tr key={`${setting.name}/${index}`} class={setting.origin === "default" ? "default" : ""}>
                <th scope="row">{setting.name}</th>
                <td>{visible(setting.value)}</td>
                <td>{setting.origin}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
