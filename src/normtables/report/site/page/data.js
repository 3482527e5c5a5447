// What the page knows: read by script tags, which work from disk as they do from the server.

const EVERY = 2000; // milliseconds between two questions for the version
const DONE = ["finished", "diverged"];
const model = { version: "", results: "", verdicts: [], tables: [], runs: null, sweeps: [] };
const histories = new Map(); // run -> { names, columns }
const prefixes = new Map(); // prefix -> promise that its histories are there
let wanted = "";

/** A column of the index: name, kind (settings, scores, facts, runs), and its value at a row. */
function column({ name, kind, all, every, values, codes }) {
  if (codes) return { name, kind, varies: true, values, codes, at: (i) => values[codes[i]] };
  if (every) return { name, kind, varies: true, at: (i) => every[i] };
  return { name, kind, varies: false, at: () => all };
}

/** The index of runs: ids, columns by name, rows by id. */
function index({ ids, columns }) {
  const list = columns.map(column);
  const find = (kind, name) => list.find((c) => c.kind === kind && c.name === name) || { name, kind, at: () => null };
  return { ids, list, find, row: new Map(ids.map((id, i) => [id, i])), status: find("runs", "status") };
}

/** A script beside the page; a promise that it was read. */
function read(url) {
  return new Promise((resolve, reject) => {
    const script = h("script", { src: url });
    script.onload = () => resolve(script.remove());
    script.onerror = () => reject(script.remove());
    document.head.append(script);
  });
}

// What the scripts beside the page call.
window.normtables = Object.freeze({
  data(version, text) {
    const before = model.runs;
    const { runs, ...rest } = JSON.parse(text);
    Object.assign(model, rest, { version, runs: index(runs) });
    forget(before);
  },
  version(version) {
    wanted = version;
  },
  histories(prefix, text) {
    for (const [run, history] of Object.entries(JSON.parse(text))) histories.set(run, history);
  },
});

/** Histories of runs that were not done before or are not now may have grown: they are read again. */
function forget(before) {
  for (const runs of [before, model.runs]) {
    if (!runs) continue;
    runs.ids.forEach((id, i) => DONE.includes(runs.status.at(i)) || prefixes.delete(id.slice(0, 2)));
  }
}

/** See to it that the histories of some runs are there; the view is drawn again once they are. */
function fetchHistories(ids) {
  const missing = [...new Set(ids.map((id) => id.slice(0, 2)))].filter((prefix) => !prefixes.has(prefix));
  for (const prefix of missing) prefixes.set(prefix, read(`histories/${prefix}.js?${model.version}`));
  if (missing.length) {
    Promise.allSettled(missing.map((prefix) => prefixes.get(prefix))).then(render);
  }
}

/** Ask for the version; read the data again where it is another. */
async function refresh() {
  try {
    await read(`version.js?${Date.now()}`);
    if (wanted !== model.version) {
      await read(`data.js?${wanted}`);
      render();
    }
    tell(location.protocol === "file:" ? "" : "live");
  } catch {
    tell(model.version ? "no longer served: this is what was last known" : "data.js is missing beside this page");
  }
}

/** Say how fresh the page is. */
function tell(text) {
  const place = document.getElementById("live");
  if (place.textContent !== text) place.textContent = text;
}

/** Refresh for as long as the page is open. */
async function follow() {
  await refresh();
  setTimeout(follow, EVERY);
}
