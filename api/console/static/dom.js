// Elements and figures. Every text from outside reaches the page by textContent only: image names, tags and
// messages of registries are hostile.

export function h(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "href" && !/^(#\/|\/[a-z])/.test(value)) throw new Error("only addresses of this server: " + value);
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  append(made, children);
  return made;
}

function append(made, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false || child === "") continue;
    if (Array.isArray(child)) append(made, child);
    else made.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

// An address inside the console; each part is encoded.
export const link = (...parts) => "#/" + parts.map(encodeURIComponent).join("/");

export const to = (text, ...parts) => h("a", { href: link(...parts) }, text);

// A table: columns are [title, (item) => cell, class]; a phone shows each row as a card with the titles beside.
export function table(caption, columns, items, empty = "Nothing.") {
  if (!items.length) return h("p", { class: "empty" }, empty);
  return h("div", { class: "scrolls" }, h("table", null,
    h("caption", { class: "unseen" }, caption),
    h("thead", null, h("tr", null, columns.map(([title]) => h("th", { scope: "col" }, title)))),
    h("tbody", null, items.map((item) => h("tr", null,
      columns.map(([title, cell, kind]) => h("td", { "data-title": title, class: kind }, whole(cell(item)))))))));
}

// Several things in a cell are one beside its title on a phone.
function whole(made) {
  if (!Array.isArray(made)) return made;
  return made.flat(Infinity).some((one) => one && one !== " ") ? h("div", null, made) : null;
}

export const pill = (text, kind) => h("span", { class: "pill " + (kind || KINDS[text] || "") }, text);

const KINDS = {
  succeeded: "good", copied: "good", unchanged: "good", whole: "good", healthy: "good",
  failed: "bad", partial: "bad", unhealthy: "bad", refused: "bad", critical: "bad", superseded: "bad", hole: "bad",
  paused: "warn", stopped: "warn", warning: "warn", late: "warn", stale: "warn",
  running: "now", pending: "now", stopping: "now", copying: "now", waiting: "now",
};

export const button = (text, onclick, attributes) => h("button", { type: "button", onclick, ...attributes }, text);

export function facts(pairs, kind = "") {
  return h("dl", { class: "facts " + kind }, pairs.filter(Boolean).map(([name, value]) =>
    h("div", null, h("dt", null, name), h("dd", null, value))));
}

export const when = (text) => text ? h("time", { datetime: text, title: text }, new Date(text).toLocaleString()) : "-";
export const number = (value) => Number(value).toLocaleString();

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"]; // decimal, as on the command line
  let unit = 0;
  let left = bytes;
  while (left >= 1000 && unit < units.length - 1) {
    left /= 1000;
    unit += 1;
  }
  return (unit ? left.toFixed(1) : left) + " " + units[unit];
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "-";
  if (seconds < 60) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min " + Math.round(seconds % 60) + " s";
  if (seconds < 86400) return Math.floor(seconds / 3600) + " h " + Math.round((seconds % 3600) / 60) + " min";
  return Math.floor(seconds / 86400) + " d " + Math.round((seconds % 86400) / 3600) + " h";
}

// An element of a picture (SVG).
export function drawn(name, values, children = []) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A bar of parts [name, count, class] of a whole, told in words, too.
export function bar(parts) {
  const whole = Math.max(1, parts.reduce((sum, [, count]) => sum + count, 0));
  const label = parts.map(([name, count]) => number(count) + " " + name).join(", ");
  let x = 0;
  const made = parts.map(([, count, kind]) => {
    const width = (100 * count) / whole;
    x += width;
    return drawn("rect", { x: x - width, y: 0, width, height: 4, class: kind });
  });
  return drawn("svg", { class: "bar", role: "img", "aria-label": label, viewBox: "0 0 100 4", preserveAspectRatio: "none" }, made);
}
