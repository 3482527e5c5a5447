// Any runs side by side: chosen by a filter or one by one; curves, what differs, any setting against any score.

const DRAWN = 100; // runs whose curves and differences are shown at once
const POINTS = 2000; // runs in a scatter

function compareView(query) {
  const where = query.get("where") || "";
  const found = filter(where);
  const chosen = chosenRows(query, found);
  const drawn = chosen.slice(0, DRAWN);
  const ids = drawn.map((i) => model.runs.ids[i]);
  fetchHistories(ids);
  return [
    title("Compare runs"),
    h("section", { "aria-label": "Choose runs" }, filterField(where, found), runList(query, found, new Set(chosen))),
    chosen.length
      ? comparison(query, chosen, drawn, ids)
      : h("p", { class: "hint" }, "Type a filter or tick runs to draw their curves."),
  ];
}

/** The runs to compare: those the address names, else all that satisfy a filter. */
function chosenRows(query, found) {
  if (!query.has("runs")) return query.get("where") ? found.rows : [];
  const rows = query
    .get("runs")
    .split(",")
    .map((id) => model.runs.row.get(id));
  return [...new Set(rows.filter((i) => i !== undefined))];
}

function comparison(query, chosen, drawn, ids) {
  const settings = curveSettings(query, drawn, ids);
  return [
    h(
      "section",
      {},
      h("h2", {}, "Curves"),
      controls(settings, ids),
      many(chosen, DRAWN, "curves"),
      chart("curves", `${settings.y} by ${settings.x} of ${count(drawn.length, "run")}`, () =>
        curves(model.runs, drawn, settings),
      ),
      exportBar(settings, drawn, ids),
    ),
    h(
      "section",
      {},
      h("h2", {}, "What differs"),
      differences("What differs", "differences", model.runs, drawn, scoresOf(drawn)),
      configuration("configuration", model.runs, drawn),
    ),
    scatterPart(query, chosen),
  ];
}

function many(chosen, most, what) {
  return (
    chosen.length > most &&
    h(
      "p",
      { class: "hint" },
      `The ${what} of the first ${most.toLocaleString("en")} of ${count(chosen.length, "run")}.`,
    )
  );
}

/** The final scores that any of some runs has. */
function scoresOf(rows) {
  return model.runs.list.filter((col) => col.kind === "scores" && rows.some((i) => col.at(i) !== null));
}

function curveSettings(query, drawn, ids) {
  const score = drawn.length ? model.runs.find("runs", "score").at(drawn[0]) : "";
  const number = Number(query.get("smooth"));
  return {
    x: query.get("x") || abscissa(ids),
    y: query.get("y") || score || "train/loss",
    logx: query.get("logx") === "1",
    logy: query.get("logy") === "1",
    smooth: number > 0 && number < 1 ? number : 0,
    bands: query.get("bands") !== "0",
  };
}

function controls(settings, ids) {
  const names = [...new Set(ids.flatMap((id) => (histories.has(id) ? histories.get(id).names : [])))];
  const metrics = names.filter((name) => name.includes("/") || name === "lr");
  const axes = names.filter((name) => !metrics.includes(name));
  return h(
    "div",
    { class: "controls" },
    field(
      "score",
      choice("y", metrics, settings.y, (y) => set({ y })),
    ),
    field(
      "over",
      choice("x", axes.length ? axes : ["step", "epoch", "seconds"], settings.x, (x) => set({ x })),
    ),
    field(
      "smoothing",
      h("input", {
        type: "range",
        id: "smooth",
        min: 0,
        max: 0.95,
        step: 0.05,
        value: settings.smooth,
        oninput: (event) => set({ smooth: Number(event.target.value) || null }),
      }),
    ),
    tick("logx", "log x", settings.logx, (on) => set({ logx: on ? 1 : null })),
    tick("logy", "log y", settings.logy, (on) => set({ logy: on ? 1 : null })),
    tick("bands", "mean and sd over seeds", settings.bands, (on) => set({ bands: on ? null : 0 })),
  );
}

function exportBar(settings, drawn, ids) {
  const runsCsv = () => download("runs.csv", csv(indexRows(drawn)));
  const curvesCsv = () => download("curves.csv", csv(historyRows(ids)));
  const svg = () =>
    window.Plotly.downloadImage(document.getElementById("curves"), {
      format: "svg",
      filename: "curves",
      width: 900,
      height: 500,
    });
  return h(
    "div",
    { class: "bar" },
    h("button", { type: "button", id: "runs-csv", onclick: runsCsv }, "Runs as CSV"),
    h("button", { type: "button", id: "curves-csv", onclick: curvesCsv }, "Curves as CSV"),
    h("button", { type: "button", id: "curves-svg", onclick: svg }, "Curves as SVG"),
    h(
      "button",
      { type: "button", id: "link", onclick: (event) => copy(location.href, event.target) },
      "Copy a link to this view",
    ),
  );
}

/** Heads and a line for each run: settings, scores, facts. */
function indexRows(rows) {
  const columns = model.runs.list.filter((col) => rows.some((i) => col.at(i) !== null));
  return [
    ["id", ...columns.map((col) => col.name)],
    ...rows.map((i) => [model.runs.ids[i], ...columns.map((col) => col.at(i))]),
  ];
}

/** Heads and a line for each row of each history. */
function historyRows(ids) {
  const known = ids.filter((id) => histories.has(id));
  const names = [...new Set(known.flatMap((id) => histories.get(id).names))];
  const lines = known.flatMap((id) =>
    series(id, "step").map((_, k) => [id, ...names.map((name) => series(id, name)[k])]),
  );
  return [["id", ...names], ...lines];
}

/** Any setting against any final score. */
function scatterPart(query, chosen) {
  const runs = model.runs;
  const rows = chosen.slice(0, POINTS);
  const settings = [...differing(runs, rows, "settings"), ...differing(runs, rows, "facts")];
  const scores = [...scoresOf(rows), ...differing(runs, rows, "facts")];
  if (!settings.length || !scores.length) return null;
  const pick = (columns, name) => columns.find((col) => col.name === name) || columns[0];
  const usual =
    settings.find((col) => col.name === "optim.lr") || settings.find((col) => !col.name.startsWith("seeds."));
  const setting = pick(settings, query.get("setting") || (usual && usual.name));
  const score = pick(scores, query.get("against") || runs.find("runs", "score").at(rows[0]));
  const log = query.get("logs") === "1";
  const name = (col) => col.name;
  return h(
    "section",
    {},
    h("h2", {}, "Setting against score"),
    h(
      "div",
      { class: "controls" },
      field(
        "setting",
        choice("setting", settings.map(name), setting.name, (s) => set({ setting: s })),
      ),
      field(
        "score",
        choice("against", scores.map(name), score.name, (s) => set({ against: s })),
      ),
      tick("logs", "log x", log, (on) => set({ logs: on ? 1 : null })),
    ),
    many(chosen, POINTS, "points"),
    chart("scatter", `${score.name} by ${setting.name} of ${count(rows.length, "run")}`, () =>
      scatter(runs, rows, setting, score, log),
    ),
  );
}
