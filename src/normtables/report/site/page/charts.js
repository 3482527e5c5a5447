// Charts, all drawn by plotly.js, which is loaded with the first of them.

// Okabe and Ito's colours without the yellow that vanishes on white; markers and dashes tell the same apart.
const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#888888"];
const MARKERS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const FEW = 40; // points of a line up to which each has a marker
const NAMED = 20; // lines up to which there is a legend; beyond, a line tells its name where the pointer is
const LONG = 90; // characters of a name
const charts = new Map(); // id -> what is drawn there
let plotly = null;

/** The place of a chart; `make` gives { data, layout } when it is drawn. */
function chart(id, label, make) {
  charts.set(id, { make, label });
  return h("div", { id, class: "chart", role: "img", "aria-label": label, "data-keep": true });
}

/** Draw every chart of the page anew that shows something else by now. */
function drawCharts() {
  const places = [...document.querySelectorAll("div.chart")];
  if (!places.length) return;
  plotly = plotly || read("plotly.min.js");
  plotly.then(
    () => places.filter((div) => div.isConnected).forEach(draw),
    () => places.forEach((div) => div.replaceChildren("The charts need plotly.min.js beside this page.")),
  );
}

/** Draw one chart unless it shows the same already; data-drawn tells when it is there. */
function draw(div) {
  const { data, layout: own } = charts.get(div.id).make();
  const layout = layered(own);
  const drawn = JSON.stringify([data, layout]);
  if (div.drawn === drawn) return;
  div.drawn = drawn;
  const config = { responsive: true, displaylogo: false, toImageButtonOptions: { format: "svg", filename: div.id } };
  delete div.dataset.drawn;
  window.Plotly.react(div, data, layout, config).then(() => (div.dataset.drawn = "yes"));
}

/** A layout in the colours of the page. */
function layered(layout) {
  const ink = getComputedStyle(document.body).color;
  const rule = getComputedStyle(document.querySelector("header")).borderBottomColor;
  const axis = { gridcolor: rule, zerolinecolor: rule, linecolor: rule, automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, size: 12, family: "system-ui, sans-serif" },
    margin: { l: 56, r: 12, t: 12, b: 64 },
    hoverlabel: { namelength: -1 },
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", font: { size: 11 } },
    uirevision: JSON.stringify([layout.xaxis, layout.yaxis]), // zoom is kept while the axes are the same
    ...layout,
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
  };
}

/** How the line or the points of a group look. */
function look(k) {
  const colour = COLOURS[k % COLOURS.length];
  const dash = DASHES[Math.floor(k / COLOURS.length) % DASHES.length];
  return {
    line: { color: colour, dash, width: 2 },
    marker: { color: colour, symbol: MARKERS[k % MARKERS.length], size: 6 },
  };
}

/** Runs in groups that differ in nothing but seeds, each with the settings that tell it from the others. */
function groups(runs, rows) {
  const settings = differing(runs, rows, "settings").filter((col) => !col.name.startsWith("seeds."));
  settings.sort((a, b) => rank(a.name) - rank(b.name));
  const found = new Map();
  for (const i of rows) {
    const values = settings.map((col) => col.at(i));
    const key = JSON.stringify(values);
    if (!found.has(key)) {
      const label = settings.map((col, k) => `${col.name}=${show(values[k])}`).filter((_, k) => values[k] !== null);
      found.set(key, { label: short(label.join(" ")) || "these runs", rows: [] });
    }
    found.get(key).rows.push(i);
  }
  return [...found.values()];
}

/** A name that a legend has room for. */
function short(text) {
  return text.length > LONG ? `${text.slice(0, LONG)} …` : text;
}

/** A column of a run's history; nothing where it has none. */
function series(run, name) {
  const history = histories.get(run);
  const k = history ? history.names.indexOf(name) : -1;
  return k < 0 ? [] : history.columns[k];
}

/** Values smoothed by a moving average with the weight of the past, free of its start at zero. */
function smoothed(values, weight) {
  let [sum, total] = [0, 0];
  return values.map((value) => {
    if (value === null || value === undefined) return null;
    sum = weight * sum + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return sum / total;
  });
}

/** One run's curve: its steps, and x and y at each. */
function curve(run, { x, y, smooth }) {
  return { steps: series(run, "step"), xs: series(run, x), ys: smoothed(series(run, y), smooth) };
}

/** Mean and standard deviation over several curves at the steps that all of them have a number at. */
function band(curves) {
  const at = curves.map(({ steps, xs, ys }) => new Map(steps.map((step, k) => [step, [xs[k], ys[k]]])));
  const shared = [...at[0].keys()].filter((step) => at.every((m) => Number.isFinite((m.get(step) || [])[1])));
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const points = shared.map((step) => {
    const ys = at.map((m) => m.get(step)[1]);
    const middle = mean(ys);
    const sd = Math.sqrt(ys.reduce((a, v) => a + (v - middle) ** 2, 0) / (ys.length - 1));
    return { x: mean(at.map((m) => m.get(step)[0])), middle, low: middle - sd, high: middle + sd };
  });
  return Object.fromEntries(["x", "middle", "low", "high"].map((key) => [key, points.map((p) => p[key])]));
}

/** A line of plotly. */
function line(xs, ys, name, k, more = {}) {
  const style = look(k);
  const mode = xs.length <= FEW ? "lines+markers" : "lines";
  return { type: "scatter", x: xs, y: ys, name, mode, ...style, connectgaps: false, ...more };
}

/** The traces of one group of runs: mean and band over its seeds, or a line for each run. */
function groupTraces(runs, group, k, settings) {
  const curves = group.rows
    .map((i) => ({ id: runs.ids[i], ...curve(runs.ids[i], settings) }))
    .filter((c) => c.xs.length);
  if (!settings.bands || curves.length < 2) {
    return curves.map((c) => line(c.xs, c.ys, plain(`${c.id} ${group.label}`), k, { legendgroup: k }));
  }
  const { x, middle, low, high } = band(curves);
  const edge = { mode: "lines", line: { width: 0 }, showlegend: false, hoverinfo: "skip", legendgroup: k };
  const name = plain(`${group.label} (mean and sd of ${curves.length})`);
  return [
    line(x, low, name, k, edge),
    line(x, high, name, k, { ...edge, fill: "tonexty", fillcolor: `${COLOURS[k % COLOURS.length]}33` }),
    line(x, middle, name, k, { legendgroup: k }),
  ];
}

/** Text for plotly, which reads a little markup in names: none of it may come from data. */
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** The curves of some runs: { x, y, logx, logy, smooth, bands }. */
function curves(runs, rows, settings) {
  const data = groups(runs, rows).flatMap((group, k) => groupTraces(runs, group, k, settings));
  const showlegend = data.filter((trace) => trace.showlegend !== false).length <= NAMED;
  const axis = (name, log) => ({ title: { text: plain(name) }, type: log ? "log" : "linear" });
  return {
    data,
    layout: { showlegend, xaxis: axis(settings.x, settings.logx), yaxis: axis(settings.y, settings.logy) },
  };
}

/** A setting against a score, a point a run, groups that differ in seeds alone in one look. */
function scatter(runs, rows, setting, score, log) {
  const value = (i) => (typeof setting.at(i) === "number" ? setting.at(i) : plain(show(setting.at(i)) || "none"));
  const numbers = rows.every((i) => typeof setting.at(i) === "number");
  const data = groups(runs, rows).map((group, k) => ({
    type: "scatter",
    mode: "markers",
    name: plain(group.label),
    x: group.rows.map((i) => (numbers ? value(i) : String(value(i)))),
    y: group.rows.map((i) => score.at(i)),
    text: group.rows.map((i) => runs.ids[i]),
    marker: { ...look(k).marker, size: 8 },
  }));
  const xaxis = { title: { text: plain(setting.name) }, type: numbers ? (log ? "log" : "linear") : "category" };
  return { data, layout: { showlegend: data.length <= NAMED, xaxis, yaxis: { title: { text: plain(score.name) } } } };
}
