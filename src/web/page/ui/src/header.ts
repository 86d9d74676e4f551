// The parts of the page that the server made and that stay: tabs and theme. Entry points: `showTab`, `showCounts`, `addThemeSwitch`.

import type { Counts } from "./api";
import { count } from "./human";

/** Marks the tab of what is shown. */
export function showTab(tab: string): void {
  for (const link of document.querySelectorAll<HTMLAnchorElement>("#tabs a[data-tab]")) {
    if (link.dataset["tab"] === tab) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else {
      link.removeAttribute("aria-current");
    }
  }
}

/** Shows the number of objects in each tab; none where a table could not be read. */
export function showCounts(counts: Counts): void {
  for (const link of document.querySelectorAll<HTMLAnchorElement>("#tabs a[data-tab]")) {
    const number = counts[link.dataset["tab"] ?? ""];
    let place = link.querySelector(".count");
    if (number === undefined) {
      place?.remove();
      continue;
    }
    if (place === null) {
      place = document.createElement("span");
      place.className = "count";
      link.append(" ", place);
    }
    const text = count(number);
    if (place.textContent !== text) place.textContent = text;
  }
}

const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];
const LABELS: Record<Theme, string> = { system: "Auto", light: "Light", dark: "Dark" };

function applied(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
}

/** Applies the theme that was chosen, and adds the button that changes it. */
export function addThemeSwitch(): void {
  const stored = localStorage.getItem("theme");
  let theme: Theme = THEMES.find((each) => each === stored) ?? "system";
  applied(theme);
  const button = document.createElement("button");
  button.type = "button";
  button.id = "theme";
  const label = () => {
    button.textContent = LABELS[theme];
    button.setAttribute("aria-label", `Colours: ${LABELS[theme]}`);
    button.title = "Light, dark, or as the system has it";
    button.dataset["theme"] = theme;
  };
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system";
    localStorage.setItem("theme", theme);
    applied(theme);
    label();
  });
  label();
  document.querySelector("body > header .title")?.after(button);
}
