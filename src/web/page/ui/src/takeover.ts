// The moment at which the live page replaces what the server made: not before there is something to show. Entry points: `begin`
// and `ready`.

let replaced: ChildNode[] = [];
let app: HTMLElement | undefined;

/** Returns where the live page is made, out of sight. */
export function begin(main: HTMLElement): HTMLElement {
  replaced = [...main.childNodes];
  app = document.createElement("div");
  app.id = "app";
  app.className = "waiting";
  main.append(app);
  return app;
}

/** Shows the live page. */
export function ready(): void {
  if (app === undefined || !app.classList.contains("waiting")) return;
  app.classList.remove("waiting");
  document.documentElement.classList.add("live");
  performance.mark("live");
  for (const node of replaced) node.remove();
  replaced = [];
}
