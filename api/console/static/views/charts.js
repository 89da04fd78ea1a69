// Charts of the last hour, a bar a minute, each told in words, too: no library, no style but the style sheet's.

import { drawn, h, number, size, span, table, to, when } from "../dom.js";

const HEIGHT = 40;

// Bars of `values` (null: nothing there), those beyond `bound` marked, and a line at `bound` where it is in the picture.
export function bars(values, label, { bound = null, kind = "" } = {}) {
  const most = Math.max(...values.map((one) => one || 0), 0);
  const top = Math.max(most, bound !== null && most > bound / 4 ? bound : 0) || 1;
  const parts = values.flatMap((one, index) => {
    if (!one) return [];
    const height = Math.max(1, (HEIGHT * one) / top);
    return [drawn("rect", { x: index * 4 + 0.5, y: HEIGHT - height, width: 3, height, class: bound !== null && one > bound ? "bad" : "now" })];
  });
  if (bound !== null && bound <= top) {
    const y = HEIGHT - (HEIGHT * bound) / top;
    parts.push(drawn("line", { x1: 0, x2: values.length * 4, y1: y, y2: y, class: "bound" }));
  }
  return drawn("svg", { class: "chart " + kind, role: "img", "aria-label": label, viewBox: "0 0 " + values.length * 4 + " " + HEIGHT, preserveAspectRatio: "none" }, parts);
}

const at = (history, index) => new Date(Date.parse(history.began_at) + 60000 * index).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

// What the bars say, for those who do not see them: the sum, and the highest with its minute.
function told(history, values, shown) {
  const most = Math.max(...values);
  if (!most) return "nothing in the last hour";
  return shown(values.reduce((sum, one) => sum + one, 0)) + " in the last hour, most at " + at(history, values.indexOf(most)) + ": " + shown(most) + " in a minute";
}

function figure(history, title, values, shown) {
  const words = told(history, values, shown);
  return h("figure", { class: "over-time" },
    h("figcaption", null, h("b", null, title), " ", words),
    bars(values, title + ", minute by minute: " + words),
    h("div", { class: "axis", "aria-hidden": "true" }, h("span", null, at(history, 0)), h("span", null, "now")));
}

export function lastHour(history) {
  return h("section", { "aria-labelledby": "hour" },
    h("h2", { id: "hour" }, "The last hour"),
    h("div", { class: "figures" },
      figure(history, "Copies that landed", history.copies, (count) => number(count)),
      figure(history, "What they had read", history.bytes, size)),
    table("From a change to its copy, by rule", [
      ["Rule", (one) => to(one.rule, "rules", one.rule)],
      ["From a change to its copy", (one) => bars(one.seconds, lagOf(one), { bound: one.objective_seconds, kind: "small" })],
      ["Longest", (one) => longest(one), "figure"],
      ["Objective", (one) => (one.objective_seconds === null ? "none" : span(one.objective_seconds)), "figure"],
      ["Late", (one) => lateOf(one)],
    ], history.rules, "Nothing has landed in the last hour."),
    history.rules_total > history.rules.length ?
      h("p", { class: "empty" }, "and " + number(history.rules_total - history.rules.length) + " rules that were faster") : null);
}

const worst = (one) => Math.max(...one.seconds.map((each) => each ?? 0));
const longest = (one) => (one.copies ? span(worst(one)) : "nothing landed");
const lagOf = (one) => "From a change to its copy, minute by minute: " + (one.copies ? "at most " + span(worst(one)) + ", " + number(one.copies) + " copies" : "nothing landed");

function lateOf(one) {
  if (!one.late.length) return "no";
  const last = one.late[one.late.length - 1];
  return last.ended_at ? ["until ", when(last.ended_at)] : ["since ", when(last.began_at)];
}
