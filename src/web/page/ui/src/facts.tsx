// What is known, in the words of the metrics. Entry point: `Sections`.

import type { VNode } from "preact";
import type { Fact, Section } from "./api";
import { KeyLink, shown } from "./cells";

function FactValue({ fact }: { fact: Fact }): VNode {
  const text = shown(fact.value, fact.unit);
  return fact.key === undefined ? <>{text}</> : <KeyLink to={fact.key} children={text} />;
}

/** A section with one value is a list of its facts, one with more is a table of them. */
function SectionView({ section }: { section: Section }): VNode {
  const [only] = section.values;
  const isList = section.values.length === 1 && only !== undefined;
  const id = `section-${section.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}`;
  return (
    <section class={isList ? "facts" : "facts wide"} aria-labelledby={id}>
      <h2 id={id}>
        {section.title}
        {!isList && <span class="count">{section.total}</span>}
      </h2>
      {isList ? <FactList facts={only} /> : <FactTable section={section} id={id} />}
    </section>
  );
}

function FactList({ facts }: { facts: readonly Fact[] }): VNode {
  return (
    <dl>
      {facts.map((fact) => (
        <div key={fact.name}>
          <dt title={fact.help}>{fact.name}</dt>
          <dd>
            <FactValue fact={fact} />
          </dd>
        </div>
      ))}
    </dl>
  );
}

function FactTable({ section, id }: { section: Section; id: string }): VNode {
  const columns = new Map<string, Fact>();
  for (const fact of section.values.flat()) if (!columns.has(fact.name)) columns.set(fact.name, fact);
  const more = section.total - section.values.length;
  const align = (fact: Fact | undefined) => (typeof fact?.value === "number" ? "number" : "");
  return (
    <>
      <div class="sideways" tabIndex={0} role="group" aria-labelledby={id}>
        <table class="table">
          <thead>
            <tr>
              {[...columns.values()].map((fact) => (
                <th key={fact.name} scope="col" class={align(fact)} title={fact.help}>
                  {fact.name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {section.values.map((facts, index) => (
              <tr key={index}>
                {[...columns.keys()].map((name) => {
                  const fact = facts.find((each) => each.name === name);
                  return (
                    <td key={name} class={align(fact)}>
                      {fact !== undefined && <FactValue fact={fact} />}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {more > 0 && <p class="note">and {more} more</p>}
    </>
  );
}

export function Sections({ sections }: { sections: readonly Section[] }): VNode {
  return (
    <div class="sections">
      {sections.map((section) => (
        <SectionView key={section.title} section={section} />
      ))}
    </div>
  );
}
