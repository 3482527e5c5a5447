// Pieces that several views share.

const SIGNS = { supported: "✓", contradicted: "✗", undecided: "?", "too few runs": "∴", missing: "–" };

/** A heading with the text of the tab. */
function title(text, ...more) {
  document.title = `${text} · normtables`;
  return h("h1", {}, text, ...more);
}

/** A table that scrolls by itself where it is too wide: heads as texts or { text, class, sort }. */
function grid(label, heads, rows, props = {}) {
  const head = heads.map((cell) => (typeof cell === "string" ? h("th", { scope: "col" }, cell) : cell));
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": label, id: props.id },
    h("table", { class: props.class }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)),
  );
}

/** A verdict with its sign, so that colour is not all that tells it. */
function verdict(name) {
  return h("span", { class: `verdict v${model.verdicts.indexOf(name)}` }, `${SIGNS[name] || "·"} ${name}`);
}

/** Counts of verdicts, those that are not zero. */
function verdicts(counts) {
  return model.verdicts
    .map((name, k) => ({ name, k, n: counts[k] }))
    .filter(({ n }) => n)
    .map(({ name, k, n }) =>
      h(
        "span",
        { class: `verdict v${k}`, title: `${n} ${name}` },
        `${SIGNS[name]} ${n}`,
        h("span", { class: "unseen" }, ` ${name}`),
      ),
    );
}

/** A status in words with a mark. */
function state(status) {
  const marks = { finished: "●", diverged: "▲", failed: "✗", unreadable: "✗", running: "▶", interrupted: "‖" };
  return h(
    "span",
    { class: `state s-${/^[a-z]+$/.test(status) ? status : "other"}` },
    `${marks[status] || "·"} ${show(status)}`,
  );
}

/** A command that can be taken to a terminal. */
function command(text) {
  return h(
    "div",
    { class: "command" },
    h("code", { tabindex: "0" }, text),
    h(
      "button",
      { type: "button", "aria-label": `Copy the command ${text}`, onclick: (event) => copy(text, event.target) },
      "Copy",
    ),
  );
}

/** Put a text on the clipboard and say so; where there is none, show it to be copied by hand. */
async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    window.prompt("Copy this:", text);
  }
  setTimeout(() => render(), 1500);
}

/** Offer a text as a file. */
function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** Rows of values as CSV. */
function csv(rows) {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
}

/** A link to the comparison of some runs. */
function compared(ids, text, more = {}) {
  return h("a", { href: address(["compare"], { runs: ids.join(","), ...more }) }, text);
}

/** A labelled control. */
function field(label, control) {
  return h("label", {}, h("span", {}, label), control);
}

/** A choice among names; `chosen` is kept though it is not among them. */
function choice(id, names, chosen, onchange) {
  const all = names.includes(chosen) || !chosen ? names : [chosen, ...names];
  const options = all.map((name) => h("option", { value: name, selected: name === chosen }, name));
  return h("select", { id, onchange: (event) => onchange(event.target.value) }, options);
}

/** A switch. */
function tick(id, label, on, onchange) {
  return h(
    "label",
    { class: "tick" },
    h("input", { type: "checkbox", id, checked: on, onchange: (event) => onchange(event.target.checked) }),
    label,
  );
}

/** A column of a table of runs: its head, and its cell for a row; numbers to the right, scores with equal decimals. */
function cells(col, rows) {
  const values = rows.map(col.at);
  const kind = values.every((value) => typeof value !== "string") ? "number" : "";
  const text = col.kind === "settings" ? show : shower(values);
  if (col.name === "status")
    return { head: h("th", { scope: "col" }, "status"), cell: (i) => h("td", {}, state(col.at(i))) };
  return {
    head: h("th", { scope: "col", class: kind }, col.name),
    cell: (i) => h("td", { class: kind }, text(col.at(i))),
  };
}

/** A table of settings in which runs differ, and of further columns, a row a run. */
function differences(label, id, runs, rows, more) {
  const columns = [runs.status, ...differing(runs, rows, "settings"), ...more].map((col) => cells(col, rows));
  const lines = rows.map((i) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, compared([runs.ids[i]], runs.ids[i])),
      columns.map(({ cell }) => cell(i)),
    ),
  );
  return grid(label, ["run", ...columns.map(({ head }) => head)], lines, { id });
}

/** All settings that some runs share, as a list that opens. */
function configuration(id, runs, rows) {
  const varied = new Set(differing(runs, rows, "settings"));
  const shared = runs.list.filter((col) => col.kind === "settings" && !varied.has(col) && col.at(rows[0]) !== null);
  const items = shared.map((col) => [h("dt", {}, col.name), h("dd", {}, show(col.at(rows[0])))]);
  return h(
    "details",
    { id },
    h("summary", {}, `Configuration, ${count(shared.length, "setting")} in common`),
    h("dl", { class: "settings" }, items),
  );
}
