// Which view is shown, and what keeps it up to date.

const VIEWS = [
  ["overview", "Overview"],
  ["compare", "Compare"],
  ["sweep", "Sweeps"],
];
let shownCell = "";

/** Draw the view that the address names, in place of what is there. */
function render() {
  if (!model.runs) return;
  const { path, query } = place();
  const main = document.getElementById("main");
  const views = {
    overview,
    table: () => tableView(path.slice(1), query),
    compare: () => compareView(query),
    sweep: sweepView,
  };
  const view =
    views[path[0]] || (() => [title("No such view"), h("p", {}, h("a", { href: "#/overview" }, "To the overview"))]);
  morph(main, h("main", { id: "main", tabindex: "-1" }, view()));
  navigation(path[0]);
  drawCharts();
}

/** The views at the top of the page. */
function navigation(current) {
  const tables = h(
    "select",
    {
      id: "tables-menu",
      "aria-label": "Table",
      onchange: (event) => event.target.value && go(address(["table", event.target.value])),
    },
    h("option", { value: "", selected: current !== "table" }, "Tables"),
    model.tables.map((table) =>
      h(
        "option",
        { value: table.name, selected: current === "table" && place().path[1] === table.name },
        `Table ${table.name}`,
      ),
    ),
  );
  const links = VIEWS.map(([name, text]) =>
    h("a", { href: `#/${name}`, "aria-current": name === current && "page" }, text),
  );
  morph(
    document.getElementById("views"),
    h("nav", { id: "views", "aria-label": "Views" }, links[0], tables, links.slice(1)),
  );
}

/** Go to an address of this page. */
function go(hash) {
  location.hash = hash;
}

/** A new address: draw it, and begin at its top, or at the cell that was opened. */
function arrive() {
  const { path, query } = place();
  const cell = path[0] === "table" && query.get("row") ? location.hash : "";
  render();
  if (cell && cell !== shownCell) document.getElementById("cell")?.focus();
  else if (!cell && !shownCell) window.scrollTo(0, 0);
  shownCell = cell;
}

/** Light, dark, or as the system is; kept where the browser keeps anything. */
function theme(step) {
  const names = ["", "light", "dark"];
  let chosen = "";
  try {
    chosen = localStorage.getItem("normtables-theme") || "";
    if (step) localStorage.setItem("normtables-theme", (chosen = names[(names.indexOf(chosen) + 1) % names.length]));
  } catch {
    chosen = step ? names[(names.indexOf(document.documentElement.dataset.theme || "") + 1) % names.length] : "";
  }
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
  const button = document.getElementById("theme");
  button.title = `Theme: ${chosen || "as the system"}`;
  button.setAttribute("aria-label", button.title);
  drawCharts();
}

theme(false);
document.getElementById("theme").onclick = () => theme(true);
document.getElementById("skip").onclick = (event) => {
  event.preventDefault(); // the address tells the view, not a place in it
  document.getElementById("main").focus();
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
window.addEventListener("hashchange", arrive);
window.addEventListener("popstate", arrive);
follow();
