// Elements, their update in place, addresses. Whatever a record says becomes text: nothing here makes markup of data.

const HANDLERS = ["onclick", "oninput", "onchange", "onkeydown"];

/** An element with attributes, handlers (on...) and children; texts, arrays and nothing are allowed as children. */
function h(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Make `old` look like `fresh` and keep what the reader did: focus, text being typed, open details, scrolling. */
function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName || (old.id || "") !== (fresh.id || "")) return old.replaceWith(fresh);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return undefined;
  }
  if (fresh.hasAttribute("data-keep")) return old.setAttribute("aria-label", fresh.getAttribute("aria-label"));
  for (const { name, value } of [...fresh.attributes]) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const name of HANDLERS) old[name] = fresh[name];
  const { value } = fresh; // before its children move over
  const was = [...old.childNodes];
  const now = [...fresh.childNodes];
  now.forEach((node, i) => (i < was.length ? morph(was[i], node) : old.append(node)));
  was.slice(now.length).forEach((node) => node.remove());
  if (old.nodeName === "INPUT" && old.type === "checkbox") old.checked = fresh.hasAttribute("checked");
  else if (["INPUT", "SELECT"].includes(old.nodeName) && old.value !== value) old.value = value;
  return undefined;
}

/** Where the page is: the parts of the path behind #/ and the settings behind the question mark. */
function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const decode = (part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  };
  return { path: path ? path.split("/").map(decode) : ["overview"], query: new URLSearchParams(query || "") };
}

/** The address of a view; settings that are empty are left out. */
function address(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const words = new URLSearchParams(kept).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${words ? `?${words}` : ""}`;
}

/** Change settings of the view that is shown; the address tells them, so that a link restores the view. */
function set(changes) {
  const { path, query } = place();
  history.replaceState(null, "", address(path, { ...Object.fromEntries(query), ...changes }));
  render();
}

/** A number as it is read, to six figures; text as it is; nothing for nothing. */
function show(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(6)));
}

/** Numbers of one column with the same decimals, five figures for the largest; whole ones and texts as they are. */
function shower(values) {
  const numbers = values.filter((value) => typeof value === "number" && !Number.isInteger(value));
  if (!numbers.length) return show;
  const places = Math.min(8, Math.max(0, 4 - Math.floor(Math.log10(Math.max(...numbers.map(Math.abs))))));
  return (value) => {
    if (typeof value !== "number") return show(value);
    const text = value.toFixed(places);
    return value !== 0 && Number(text) === 0 ? show(value) : text;
  };
}

/** A span of time for a reader. */
function span(seconds) {
  if (seconds === null || seconds === undefined) return "unknown";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** `1 run`, `2 runs`. */
function count(n, word) {
  return `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
}
