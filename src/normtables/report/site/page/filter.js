// Which runs a filter names: key=value, key!=value, key<number, several values with commas, anything else as free text.

const WORD = /(?:[^\s"]|"[^"]*")+/g;
const CONDITION = /^([^\s=!<>]+)(!=|>=|<=|=|<|>)(.*)$/;
const VALUE = /(?:[^,"]|"[^"]*")+/g;
const COMPARE = {
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
  "<=": (a, b) => a <= b,
  ">=": (a, b) => a >= b,
};

/** The column that a key names: in full, a group by its name, or by its last part where only one ends so. */
function named(runs, key) {
  const exact = runs.list.find((c) => c.name === key) || runs.list.find((c) => c.name === `${key}.name`);
  if (exact) return exact;
  const ends = runs.list.filter((c) => c.name.endsWith(`.${key}`) || c.name.endsWith(`/${key}`));
  return ends.length === 1 ? ends[0] : null;
}

/** Whether a value is one of the texts; 0.10 is 0.1. */
function among(texts) {
  const numbers = texts.filter((text) => text.trim() !== "").map(Number);
  return (value) =>
    texts.includes(value === null ? "" : String(value)) || (typeof value === "number" && numbers.includes(value));
}

/** A function of a column's value as one of its row, asked once for each value where values are coded. */
function byRow(col, test) {
  if (!col.codes) return (i) => test(col.at(i));
  const known = col.values.map(test);
  return (i) => known[col.codes[i]];
}

/** The test of one word of a filter, or what is wrong with it. */
function condition(runs, word) {
  const found = CONDITION.exec(word);
  if (!found) return anywhere(runs, word.replaceAll('"', "").toLowerCase());
  const [, key, sign, quoted] = found;
  const text = quoted.replaceAll('"', "");
  if (key === "id") return (i) => text.split(",").some((id) => id && runs.ids[i].startsWith(id)) === (sign === "=");
  const col = named(runs, key);
  if (!col) return `no setting or score ${key}`;
  if (COMPARE[sign]) return byRow(col, (value) => typeof value === "number" && COMPARE[sign](value, Number(text)));
  const is = among((quoted.match(VALUE) || [""]).map((value) => value.replaceAll('"', "")));
  return byRow(col, sign === "=" ? is : (value) => !is(value));
}

/** Free text: in the id or in any value. */
function anywhere(runs, text) {
  const tests = runs.list.map((col) =>
    byRow(col, (value) => value !== null && String(value).toLowerCase().includes(text)),
  );
  return (i) => runs.ids[i].includes(text) || tests.some((test) => test(i));
}

/** The rows that satisfy every word of a filter, and what is wrong with it. */
function matching(runs, text) {
  const tests = (text.match(WORD) || []).map((word) => condition(runs, word));
  const wrong = tests.filter((test) => typeof test === "string");
  const rows = [];
  if (!wrong.length) {
    for (let i = 0; i < runs.ids.length; i += 1) if (tests.every((test) => test(i))) rows.push(i);
  }
  return { rows, wrong: wrong.join("; ") };
}

/** The columns of a kind in which some rows differ. */
function differing(runs, rows, kind) {
  return runs.list.filter((col) => {
    if (col.kind !== kind || !col.varies || !rows.length) return false;
    const first = col.at(rows[0]);
    return rows.some((i) => col.at(i) !== first);
  });
}
