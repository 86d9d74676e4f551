// Keys that work anywhere on the page. Entry point: `addKeys`.

const KEYS = [
  ["/", "Filter"],
  ["Esc", "Empty the filter, then leave it"],
  ["↓ ↑ PgDn PgUp Home End", "Move in the table"],
  ["Enter", "Open the row"],
  ["?", "Show these keys"],
] as const;

function element(name: string, text: string, ...children: readonly Node[]): HTMLElement {
  const made = document.createElement(name);
  made.append(...(text === "" ? children : [text, ...children]));
  return made;
}

function makeDialog(): HTMLDialogElement {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-label", "Keys");
  const rows = KEYS.map(([keys, meaning]) => {
    const names = keys.split(" ").map((key) => element("kbd", key));
    return element("div", "", element("dt", "", ...names), element("dd", meaning));
  });
  const close = element("button", "Close") as HTMLButtonElement;
  close.addEventListener("click", () => dialog.close());
  dialog.append(element("h2", "Keys"), element("dl", "", ...rows), close);
  document.body.append(dialog);
  return dialog;
}

export function addKeys(): void {
  let dialog: HTMLDialogElement | undefined;
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target instanceof HTMLElement && event.target.matches("input:not([type=checkbox]), select, textarea");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") {
      const filter = document.querySelector<HTMLInputElement>("#filter input[type=search]");
      if (filter === null) return;
      event.preventDefault();
      filter.focus();
      filter.select();
    } else if (event.key === "?") {
      dialog ??= makeDialog();
      if (!dialog.open) dialog.showModal();
    }
  });
}
