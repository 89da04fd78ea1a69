// Whether everything is where it should be, what moves, what is stuck and why, and what to press.

import { all, at, read } from "../api.js";
import { bar, facts, h, number, pill, size, span, table, to, when } from "../dom.js";
import { lastHour } from "./charts.js";
import { progress, workers } from "./parts.js";

const MOST_BARS = 5;
const done = (copies) => copies.copied + copies.unchanged + copies.skipped + copies.failed;
const PLACES = { rule: "rules", registry: "registries", region: "regions", deletion: "deletions", pipeline: "pipelines" };

export async function overview(_parts, page) {
  const [whole, history, running, last, regions] = await Promise.all([
    read("overview", { signal: page.signal }),
    read("overview/history", { signal: page.signal }),
    read("executions?state=running&limit=10", { signal: page.signal }),
    read("executions?limit=8", { signal: page.signal }),
    all("regions", { signal: page.signal }),
  ]);
  const told = await Promise.all(running.items.slice(0, MOST_BARS).map((one) => read("executions/" + at(one.id), { signal: page.signal })));
  const under = (...states) => number(states.reduce((sum, state) => sum + (whole.copies[state] || 0), 0));
  return [
    h("h1", null, verdict(whole)),
    attention(whole.concerns),
    h("section", { "aria-labelledby": "moving" },
      h("h2", { id: "moving" }, "Moving"),
      facts([
        ["bytes a second", size(whole.bytes_per_second)],
        ["copies under way", under("running", "copying")],
        ["copies that wait", under("pending", "dispatched", "waiting")],
        ["rules", number(whole.rules.active) + " of " + number(whole.rules.total) + " active"],
      ]),
      running.items.length ? running.items.map((one, index) => running_(told[index] || one)) : h("p", { class: "empty" }, "No execution runs.")),
    lastHour(history),
    h("section", { "aria-labelledby": "regions" },
      h("h2", { id: "regions" }, "Regions"),
      table("Regions with their workers", [
        ["Region", (one) => one.name],
        ["Workers", workers, "figure"],
        ["Slots", (one) => number(one.workers.slots), "figure"],
        ["Waiting", (one) => number(one.queue.waiting), "figure"],
        ["Oldest", (one) => span(one.queue.oldest_seconds), "figure"],
      ], regions, "No region has workers yet: start `transship worker`.")),
    h("section", { "aria-labelledby": "lately" },
      h("h2", { id: "lately" }, "Lately"),
      table("The last executions", [
        ["Rule", (one) => to(one.rule, "rules", one.rule)],
        ["State", (one) => pill(one.state)],
        ["Begun", (one) => when(one.started_at || one.created_at)],
        ["Took", (one) => span(one.seconds), "figure"],
        ["", (one) => to("Open", "executions", one.id)],
      ], last.items, "Nothing has run yet. Save a rule, then run it.")),
  ];
}

function verdict(whole) {
  const grave = whole.concerns.filter((one) => one.severity !== "info").length;
  if (grave) return grave === 1 ? "One thing needs attention" : number(grave) + " things need attention";
  if (!whole.rules.total) return "There is no rule yet";
  return "Everything is where it should be";
}

function attention(concerns) {
  if (!concerns.length) return null;
  return h("section", { "aria-labelledby": "attention" },
    h("h2", { id: "attention", class: "unseen" }, "What needs attention"),
    h("ul", { class: "concerns" }, concerns.map((one) => h("li", { class: one.severity },
      pill(one.severity, { critical: "bad", warning: "warn", info: "now" }[one.severity]), " ",
      one.name ? to(one.kind + " " + one.name, PLACES[one.kind] || "", one.name) : one.kind === "deletion" ? to("deletions", "deletions") : one.kind,
      " ", one.what, h("span", { class: "action" }, one.action)))));
}

function running_(one) {
  return h("p", { class: "running" }, to(one.rule, "executions", one.id), " ", pill(one.state), " ",
    span(one.seconds), one.copies ? (one.planned || done(one.copies) ? progress(one.copies) : bar([["planning", 1, "now"]])) : null);
}
