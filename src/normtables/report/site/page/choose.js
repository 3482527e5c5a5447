// The list of runs: a filter, and a page of the runs that satisfy it, each with a box to choose it.

const PAGE = 20; // runs on a page of the list
const NONE = "none"; // the address of no run at all; without any, the runs follow the filter
const SHOWN = 6; // settings in the list
let filtered = { key: "", found: null };

/** The rows that satisfy the filter, remembered while neither filter nor runs change. */
function filter(where) {
  const key = `${model.version} ${where}`;
  if (filtered.key !== key) filtered = { key, found: matching(model.runs, where) };
  return filtered.found;
}

function filterField(where, found) {
  const say = found.wrong || `${found.rows.length.toLocaleString("en")} of ${count(model.runs.ids.length, "run")}`;
  const input = h("input", {
    id: "where",
    type: "search",
    value: where,
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "norm=bn,dbn dataset=digits optim.lr>=0.1 status=finished",
    "aria-describedby": "where-help",
    oninput: (event) => set({ where: event.target.value, page: null }),
  });
  return [
    h(
      "div",
      { class: "filter" },
      field("Filter", input),
      h("output", { id: "matches", class: found.wrong ? "wrong" : "", for: "where" }, say),
    ),
    h(
      "p",
      { id: "where-help", class: "help" },
      "key=value, key!=value, key<number, several values with commas, quotes around spaces; any other word is looked for everywhere.",
    ),
  ];
}

/** A page of the runs that satisfy the filter, each with a box to choose it; until one is used, all are chosen. */
function runList(query, found, chosen) {
  const runs = model.runs;
  const pages = Math.max(1, Math.ceil(found.rows.length / PAGE));
  const page = Math.min(pages, Math.max(1, Number(query.get("page")) || 1));
  const sort = query.get("sort") || "";
  const list = listed(found.rows);
  const rows = sorted(found.rows, list, sort).slice((page - 1) * PAGE, page * PAGE);
  const columns = list.map((col) => sortable(col, cells(col, rows), sort));
  const choose = (ids) => set({ runs: ids.join(",") || NONE });
  const explicit = () => [...chosen].map((i) => runs.ids[i]);
  const line = (i) =>
    h(
      "tr",
      { class: chosen.has(i) ? "chosen" : "" },
      h(
        "td",
        {},
        h("input", {
          type: "checkbox",
          checked: chosen.has(i),
          "aria-label": `Choose run ${runs.ids[i]}`,
          id: `choose-${runs.ids[i]}`,
          onchange: (event) =>
            choose(event.target.checked ? [...explicit(), runs.ids[i]] : explicit().filter((id) => id !== runs.ids[i])),
        }),
      ),
      h("th", { scope: "row" }, runs.ids[i]),
      columns.map(({ cell }) => cell(i)),
    );
  return [
    grid(
      "Runs",
      [h("th", {}, h("span", { class: "unseen" }, "chosen")), "run", ...columns.map(({ head }) => head)],
      rows.map(line),
      { id: "runs", class: "runs" },
    ),
    h(
      "div",
      { class: "bar" },
      h(
        "button",
        { type: "button", id: "previous", disabled: page === 1, onclick: () => set({ page: page - 1 }) },
        "Previous",
      ),
      h("span", { id: "page" }, `page ${page} of ${pages.toLocaleString("en")}`),
      h(
        "button",
        { type: "button", id: "next", disabled: page === pages, onclick: () => set({ page: page + 1 }) },
        "Next",
      ),
      h("span", { class: "grow" }),
      h(
        "button",
        {
          type: "button",
          id: "all",
          disabled: !query.has("runs"),
          onclick: () => set({ runs: null }),
        },
        "Follow the filter",
      ),
      h(
        "button",
        { type: "button", id: "none", disabled: !chosen.size, onclick: () => set({ runs: NONE }) },
        "Choose none",
      ),
    ),
  ];
}

/** The columns of the list: status, the settings in which these runs differ most visibly, their score. */
function listed(rows) {
  const runs = model.runs;
  const varied = differing(runs, rows, "settings").filter((col) => !["seeds.order", "seeds.data"].includes(col.name));
  varied.sort((a, b) => rank(a.name) - rank(b.name));
  const names = new Set(rows.slice(0, POINTS).map((i) => runs.find("runs", "score").at(i)));
  const scores = runs.list.filter((col) => col.kind === "scores" && names.has(col.name)).slice(0, 2);
  return [runs.status, ...varied.slice(0, SHOWN), ...scores];
}

/** Names and rates before other settings, seeds last. */
function rank(name) {
  const first = ["model.name", "norm.name", "dataset.name", "optim.lr"];
  return first.includes(name) ? first.indexOf(name) : name.startsWith("seeds.") ? 9 : 5;
}

/** A column whose head sorts by it: up, down, not. */
function sortable(col, { head, cell }, sort) {
  const up = sort === col.name;
  const down = sort === `-${col.name}`;
  const next = up ? `-${col.name}` : down ? null : col.name;
  head.setAttribute("aria-sort", up ? "ascending" : down ? "descending" : "none");
  head.replaceChildren(
    h(
      "button",
      { type: "button", class: "sort", onclick: () => set({ sort: next, page: null }) },
      col.name,
      up ? " ↑" : down ? " ↓" : "",
    ),
  );
  return { head, cell };
}

/** Rows by a column, those without a value last. */
function sorted(rows, columns, sort) {
  const col = columns.find((c) => c.name === sort.replace(/^-/, ""));
  if (!col) return rows;
  const sign = sort.startsWith("-") ? -1 : 1;
  const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  return [...rows].sort((i, j) => {
    const [a, b] = [col.at(i), col.at(j)];
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * order(a, b);
  });
}
