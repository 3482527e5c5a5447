// Sweeps: what is done, running, failed and waiting, and how long the rest may take.

const RUNNING = ["run", "what", "progress", "scores so far", "time"];

function sweepView() {
  if (!model.sweeps.length) {
    return [
      title("Sweeps"),
      h("p", {}, "No sweep has been made here yet. This begins one:"),
      command("normtables table 3 --tier laptop --run"),
    ];
  }
  return [title("Sweeps"), model.sweeps.map((sweep, k) => sweepPart(sweep, k === 0 || sweep.state === "running"))];
}

/** How many runs a sweep has. */
function total({ counts }) {
  return counts.done + counts.running + counts.failed + counts.waiting;
}

function sweepPart(sweep, open) {
  const id = `sweep-${sweep.name}`;
  const { counts } = sweep;
  const all = total(sweep);
  return h(
    "details",
    { class: "sweep", id, open },
    h("summary", {}, h("b", {}, sweep.name), ` ${sweep.state}, ${counts.done} of ${count(all, "run")} done`),
    h("progress", { max: all, value: sweep.counts.done, "aria-label": `${sweep.counts.done} of ${all} done` }),
    h(
      "dl",
      { class: "facts" },
      sweepFacts(sweep).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    ),
    command(sweep.command),
    listing(`running-${id}`, "running", counts.running, RUNNING, sweep.running.map(runningRow)),
    listing(`failed-${id}`, "failed", counts.failed, ["run", "what", "reason"], sweep.failed.map(failedRow)),
    listing(
      `waiting-${id}`,
      "waiting",
      counts.waiting,
      ["run", "what"],
      sweep.waiting.map((run) => runRow(run)),
    ),
  );
}

function sweepFacts(sweep) {
  const { counts } = sweep;
  const when = (seconds) => new Date(seconds * 1000).toLocaleString();
  const facts = [["begun", when(sweep.begun)]];
  if (sweep.state === "running")
    facts.push(["time left", sweep.left === null ? "unknown until a run has ended" : `about ${span(sweep.left)}`]);
  else if (sweep.ended) facts.push(["took", span(sweep.ended - sweep.begun)]);
  if (sweep.workers) facts.push(["workers", String(sweep.workers)]);
  facts.push(["done", counts.diverged ? `${counts.done}, ${counts.diverged} diverged` : String(counts.done)]);
  for (const name of ["running", "failed", "waiting"]) facts.push([name, String(counts[name])]);
  return facts;
}

/** Runs of one kind, folded where they only wait; the list says so where it is not whole. */
function listing(id, name, n, heads, rows) {
  if (!n) return null;
  const columns = heads.map((text) => h("th", { scope: "col", class: text === "time" ? "number" : "" }, text));
  return h(
    "details",
    { id: `${id}-list`, open: name !== "waiting" },
    h("summary", {}, `${n.toLocaleString("en")} ${name}`),
    grid(`Runs ${name}`, columns, rows, { id }),
    n > rows.length && h("p", { class: "hint" }, `The first ${rows.length} of ${n.toLocaleString("en")}.`),
  );
}

function runRow({ id, label }, cells = []) {
  const name = model.runs.row.has(id) ? compared([id], id) : h("span", {}, id);
  return h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, label), cells);
}

function failedRow(run) {
  return runRow(run, [h("td", { class: "reason" }, run.reason)]);
}

function runningRow(run) {
  const share = Math.round(100 * run.progress);
  return runRow(run, [
    h("td", {}, h("progress", { max: 100, value: share, "aria-label": `${share} %` }), ` ${share} %`),
    h("td", { class: "scores" }, run.scores.map(([name, value]) => `${name} ${show(value)}`).join("  ")),
    h("td", { class: "number" }, run.seconds === null ? "" : span(run.seconds)),
  ]);
}
