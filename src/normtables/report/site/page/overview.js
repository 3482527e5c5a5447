// The overview: the tables by tier, what was run of them, what became of their claims, misprints.

function overview() {
  const tiers = [...new Set(model.tables.flatMap((table) => table.tiers.map((part) => part.tier)))];
  const order = ["smoke", "laptop", "short", "paper"];
  tiers.sort((a, b) => order.indexOf(a) - order.indexOf(b));
  return [
    title("Overview"),
    h(
      "p",
      { class: "lead" },
      "The tables of the survey, as far as they are reproduced here. A cell says how much of a table is run at a tier and what became of its claims.",
    ),
    summary(),
    grid(
      "Tables by tier",
      ["Table", ...tiers, "misprints"],
      model.tables.map((table) => overviewRow(table, tiers)),
      { class: "matrix", id: "tables" },
    ),
    h(
      "p",
      { class: "legend" },
      "Claims: ",
      model.verdicts.map((name) => [verdict(name), " "]),
    ),
    misprints(),
  ];
}

/** Runs by status, and the sweep that is being made. */
function summary() {
  const counts = new Map();
  model.runs.ids.forEach((_, i) => counts.set(model.runs.status.at(i), (counts.get(model.runs.status.at(i)) || 0) + 1));
  const live = model.sweeps.find((sweep) => sweep.state === "running");
  return h(
    "p",
    { id: "counts" },
    `${count(model.runs.ids.length, "run")}: `,
    [...counts].map(([status, n]) => [state(status), ` ${n.toLocaleString("en")} `]),
    live && h("a", { href: "#/sweep" }, `${live.name} is running, ${live.counts.done} of ${total(live)} done`),
  );
}

function overviewRow(table, tiers) {
  const found = new Map(table.tiers.map((part) => [part.tier, part]));
  const first = table.tiers.find((part) => part.run) || table.tiers[0];
  const errata = (certainty) => table.errata.filter((e) => e.certainty === certainty).length;
  const also = errata("probable") + errata("unverified");
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row" },
      h("a", { href: address(["table", table.name, first.tier]) }, `Table ${table.name}`),
      h("span", { class: "what" }, table.title),
    ),
    tiers.map((tier) =>
      h(
        "td",
        { "data-tier": tier },
        found.has(tier) ? tierCell(table, found.get(tier)) : h("span", { class: "quiet" }, "not at this tier"),
      ),
    ),
    h(
      "td",
      { "data-tier": "misprints", class: "errata" },
      String(errata("established")),
      also ? h("span", { class: "quiet" }, ` and ${also} unsure`) : "",
    ),
  );
}

function tierCell(table, part) {
  const share = part.planned ? Math.round((100 * part.run) / part.planned) : 0;
  return h(
    "a",
    { class: "tier", href: address(["table", table.name, part.tier]) },
    h("span", { class: "share" }, `${part.run} / ${part.planned} cells`),
    h("meter", { min: 0, max: 100, value: share, "aria-label": `${share} % run` }),
    h("span", { class: "claims" }, verdicts(part.verdicts)),
  );
}

/** Every cell in which the survey prints another number than its source. */
function misprints() {
  const rows = model.tables.flatMap((table) => table.errata.map((e) => ({ table, ...e })));
  const cells = rows.map((e) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, `Table ${e.table.name}`),
      [e.row, e.column].map((t) => h("td", {}, t)),
      [e.survey, e.original].map((t) => h("td", { class: "number" }, t)),
      [e.certainty, e.note].map((t) => h("td", {}, t)),
    ),
  );
  return h(
    "section",
    {},
    h("h2", {}, "Where survey and source differ"),
    grid(
      "Where survey and source differ",
      [
        "table",
        "row",
        "column",
        ...["survey", "source"].map((text) => h("th", { scope: "col", class: "number" }, text)),
        "how sure",
        "note",
      ],
      cells,
      { id: "errata" },
    ),
  );
}
