// One table at a tier: a part for each printed column, the cell that was clicked, claims, departures.

function tableView([name, tier], query) {
  const table = model.tables.find((t) => t.name === name);
  if (!table) return [title("No such table"), h("p", {}, `There is no table ${name}.`)];
  const part = table.tiers.find((t) => t.tier === tier) || table.tiers.find((t) => t.run) || table.tiers[0];
  const cell = part.columns
    .flatMap((c) => c.lines.map((line) => ({ column: c, line })))
    .find(({ column, line }) => column.name === query.get("column") && line.row === query.get("row") && !line.beside);
  return [
    title(`Table ${table.name}`, h("small", {}, table.title)),
    h(
      "p",
      { class: "lead" },
      `Source: ${table.source}. ${table.kind === "reproduction" ? "A reproduction: values are set against the published ones." : "A reconstruction: signs, orders and ratios count, not values."}`,
    ),
    h(
      "nav",
      { class: "tabs", "aria-label": "Tiers" },
      table.tiers.map((t) =>
        h(
          "a",
          { href: address(["table", name, t.tier]), "aria-current": t === part && "page" },
          t.tier,
          h("small", {}, `${t.run} / ${t.planned}`),
        ),
      ),
    ),
    part.tier === "smoke" &&
      h("p", { class: "warning" }, "Tier smoke shows only that everything runs. The numbers mean nothing."),
    !table.runnable && h("p", { class: "warning" }, "This table cannot be run yet: published numbers only."),
    table.runnable &&
      part.run < part.planned &&
      h(
        "div",
        { class: "missing" },
        h("p", {}, `${count(part.planned - part.run, "cell")} not run yet; this makes them:`),
        command(part.command),
      ),
    h(
      "div",
      { class: "columns" },
      part.columns.map((column) => columnPart(table, part, column, cell)),
    ),
    claims(part),
    h(
      "section",
      {},
      h("h2", {}, "Departures from the source"),
      h(
        "ul",
        {},
        part.departures.map((text) => h("li", {}, text)),
      ),
    ),
    cell && drawer(table, part, cell),
  ];
}

/** A printed column: its rows with survey, source, ours, interval, difference and n. */
function columnPart(table, part, column, chosen) {
  const known = column.published ? ["survey", "source"] : [];
  const heads = ["", ...known, "ours", "95 % interval", ...(column.published ? ["difference"] : []), "n"].map(
    (text, k) => h("th", { scope: "col", class: k ? "number" : "" }, text),
  );
  const rows = column.lines.map((line) => cellRow(table, part, column, line, chosen && chosen.line === line));
  return h(
    "section",
    { class: "column" },
    h(
      "h2",
      {},
      column.name,
      column.unit && column.unit !== "%" && !column.name.includes(column.unit) ? h("small", {}, column.unit) : null,
    ),
    column.stand_in &&
      h(
        "p",
        { class: "standin" },
        `Stand-in for ${column.stand_in}: signs, orders and ratios are judged on it, not values.`,
      ),
    h("p", { class: "says" }, column.says),
    grid(column.name, heads, rows, { class: "cells" }),
  );
}

function cellRow(table, part, column, line, chosen) {
  const number = (text, more = "") => h("td", { class: `number ${more}` }, text);
  const link = {
    href: address(["table", table.name, part.tier], { row: line.row, column: column.name }),
    "aria-current": chosen && "true",
  };
  const ours = line.ours
    ? [h("b", {}, line.ours), line.sd && h("span", { class: "sd" }, ` ± ${line.sd}`)]
    : h("span", { class: "quiet" }, line.trouble);
  const note =
    { verified: "", secondary: "from a secondary source", memory: "from memory, not confirmed" }[line.mark] || "";
  return h(
    "tr",
    { class: `${line.beside ? "beside" : ""} ${chosen ? "chosen" : ""}` },
    h("th", { scope: "row" }, line.beside ? h("span", {}, "validation-best") : h("a", link, line.row)),
    column.published && [
      number([line.survey, line.erratum && h("abbr", { title: `differs from the source: ${line.erratum}` }, " ≠")]),
      number([line.original, note && h("abbr", { title: note }, " *")]),
    ],
    h("td", { class: "number ours" }, ours),
    number(line.low ? `${line.low} to ${line.high}` : ""),
    column.published && number(line.difference),
    number([
      line.n ? String(line.n) : "",
      line.ours && line.trouble && h("span", { class: "quiet" }, ` ${line.trouble}`),
    ]),
  );
}

/** The claims of a table with their verdicts. */
function claims(part) {
  const rows = part.claims.map((c) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, c.claim),
      h("td", {}, c.says),
      h("td", {}, verdict(c.verdict)),
      h("td", {}, c.evidence),
      h("td", { class: "number" }, c.n),
    ),
  );
  if (!rows.length) return null;
  return h(
    "section",
    {},
    h("h2", {}, "Claims"),
    grid("Claims", ["claim", "says", "verdict", "evidence", h("th", { class: "number", scope: "col" }, "n")], rows, {
      class: "claims",
      id: "claims",
    }),
  );
}

/** What is behind the cell that was clicked: runs, curves, configuration, commands. */
function drawer(table, part, { column, line }) {
  const rows = line.runs.filter((id) => model.runs.row.has(id)).map((id) => model.runs.row.get(id));
  const ids = rows.map((i) => model.runs.ids[i]);
  fetchHistories(ids);
  const close = () => go(address(["table", table.name, part.tier]));
  const facts = [
    ["survey", line.survey],
    ["source", line.original],
    ["ours", line.ours && `${line.ours}${line.sd && ` ± ${line.sd}`}`],
    ["95 % interval", line.low && `${line.low} to ${line.high}`],
    ["difference", line.difference],
    ["p", line.p],
    ["n", line.n ? String(line.n) : ""],
    ["status", line.trouble || line.status],
  ];
  return h(
    "aside",
    {
      class: "drawer",
      id: "cell",
      tabindex: "-1",
      "aria-labelledby": "cell-title",
      onkeydown: (event) => event.key === "Escape" && close(),
    },
    h("button", { type: "button", class: "close", onclick: close }, "Close"),
    h("h2", { id: "cell-title" }, `${line.row} · ${column.name}`),
    h("p", { class: "says" }, column.says),
    h(
      "dl",
      { class: "facts" },
      facts.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    ),
    rows.length
      ? cellRuns(column, rows, ids)
      : h("p", {}, line.status === "quoted" ? "Quoted, never run." : "No run of this cell is there yet."),
    h("h3", {}, "This table"),
    command(part.command),
  );
}

function cellRuns(column, rows, ids) {
  const runs = model.runs;
  const score = runs.find("scores", column.score);
  const axis = abscissa(ids);
  return [
    h("h3", {}, "Curves"),
    chart("cell-curves", `${column.score} by ${axis} of the runs behind this cell`, () =>
      curves(runs, rows, { x: axis, y: column.score, smooth: 0, bands: true }),
    ),
    h("h3", {}, count(rows.length, "run")),
    differences("Runs of this cell", "cell-runs", runs, rows, [score, runs.find("facts", "seconds")]),
    h("p", {}, compared(ids, "Compare these runs", { y: column.score, x: axis })),
    configuration("cell-configuration", runs, rows),
    h(
      "details",
      { id: "cell-commands" },
      h("summary", {}, "Commands that make each run again"),
      ids.map((id) => command(again(id))),
    ),
  ];
}

/** The unit that curves run over by default: epochs where the histories count in them. */
function abscissa(ids) {
  return ids.some((id) => series(id, "epoch").length) || !ids.some((id) => histories.has(id)) ? "epoch" : "step";
}

/** What computes a run once more, into another folder: here it is done already. */
function again(id) {
  const path = `frozen=${model.results}/runs/${id}/config.yaml`;
  return `normtables run ${/^[\w.,:=@%+/-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`} results=again`;
}
