// Replicas of whole instances: how far behind, what somebody else changed there, and who could take over.

import { all, at, read, send } from "../api.js";
import { button, facts, h, number, pill, span, table, to, when } from "../dom.js";

const STATES = { caught_up: "good", behind: "warn", preparing: "now", copying: "now", fenced: "bad" };
const driftOf = (one) => one.drift.moved + one.drift.deleted + one.drift.added;

export async function replicas([rule, registry], page) {
  if (registry) return one_(rule, registry, page);
  const found = await all("replicas", { signal: page.signal });
  return [
    h("h1", null, "Replicas"),
    table("Replicas", [
      ["Rule", (one) => to(one.rule, "rules", one.rule)], ["Replica", (one) => to(one.registry, "replicas", one.rule, one.registry)],
      ["Of", (one) => to(one.primary, "registries", one.primary)], ["State", (one) => pill(one.state, STATES[one.state])],
      ["Behind", (one) => (one.lag.seconds ? span(one.lag.seconds) : pill("in step", "good"))],
      ["Drift", (one) => (driftOf(one) ? pill(number(driftOf(one)), "bad") : "0"), "figure"],
      ["Compared", (one) => when(one.compared_at)],
    ], found, "No rule has mode: replicate."),
  ];
}

async function one_(rule, registry, page) {
  const path = "replicas/" + at(rule, registry);
  const [found, drift, promotion] = await Promise.all([
    read(path, { signal: page.signal }), read(path + "/drift?limit=100", { signal: page.signal }),
    page.state.asked ? read(path + "/promotion", { signal: page.signal }) : null,
  ]);
  const press = (text, what, attributes) => button(text, page.does(() => send("POST", path + "/" + what)), { "data-key": what, ...attributes });
  return [
    h("h1", null, registry, " ", pill(found.state, STATES[found.state])),
    h("p", null, "a replica of ", to(found.primary, "registries", found.primary), " by rule ", to(rule, "rules", rule)),
    h("p", { class: "actions" },
      driftOf(found) ? press("Put right what somebody else moved", "repair", { class: "primary" }) : null,
      button("What would be lost if it took over?", page.does(() => { page.state.asked = true; }), { "data-key": "asked" })),
    facts([
      ["behind", span(found.lag.seconds)], ["waiting", number(found.lag.waiting)], ["copied", number(found.progress.copied)],
      ["failed", number(found.progress.failed)], ["caught up", when(found.caught_up_at)], ["compared", when(found.compared_at)],
    ]),
    promotion ? [h("h2", null, "If it took over"), h("pre", null, JSON.stringify(promotion, null, 2)),
      h("p", { class: "empty" }, "To make it the primary: transship replicas promote " + rule + "/" + registry)] : null,
    h("h2", null, "Drift"),
    table("What somebody else changed", [
      ["Tag", (one) => one.repository + ":" + one.tag, "name"], ["How", (one) => pill(one.kind, "bad")], ["State", (one) => one.state],
      ["Wanted", (one) => h("code", null, one.wanted || "")], ["Found", (one) => h("code", null, one.found || "")], ["Since", (one) => when(one.first_at)],
    ], drift.items, "Nobody else has changed anything there."),
  ];
}
