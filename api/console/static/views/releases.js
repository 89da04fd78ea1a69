// Releases: sets of images whose tags move at once in all places.

import { all, at, read, send } from "../api.js";
import { button, facts, h, number, pill, span, table, to, when } from "../dom.js";

const STATES = { staged: "good", flipped: "good", failed: "bad", rolled_back: "warn", set_back: "warn" };
const stateOf = (one) => pill(one.state, STATES[one.state] || "now");

export async function releases([name], page) {
  if (name) return one_(name, page);
  const found = await all("releases", { signal: page.signal });
  return [
    h("h1", null, "Releases"),
    table("Releases", [
      ["Release", (one) => to(one.name, "releases", one.name)],
      ["Rule", (one) => to(one.rule, "rules", one.rule)],
      ["State", stateOf], ["Images", (one) => number(one.images), "figure"],
      ["Window", (one) => (one.window_seconds === null ? "" : span(one.window_seconds)), "figure"],
      ["Changed", (one) => when(one.changed_at)], ["Why", (one) => one.reason],
    ], found, "There is none: `transship release stage` makes one."),
  ];
}

async function one_(name, page) {
  const path = "releases/" + at(name);
  const [found, tags] = await Promise.all([read(path, { signal: page.signal }), read(path + "/tags?limit=200", { signal: page.signal })]);
  const press = (text, what, question, attributes) => button(text, page.does(async () => {
    if (!question || confirm(question)) await send("POST", path + "/" + what);
  }), { "data-key": what, ...attributes });
  return [
    h("h1", null, name, " ", stateOf(found)),
    h("p", null, "of rule ", to(found.rule, "rules", found.rule), found.execution ? [", copied by ", to("this execution", "executions", found.execution)] : null,
      found.reason ? ": " + found.reason : null),
    h("p", { class: "actions" },
      found.state === "staged" ? press("Flip all tags", "flip", "Move all tags of " + name + " now?", { class: "primary" }) : null,
      found.state === "flipped" ? press("Roll back", "rollback", "Give all tags of " + name + " the digests that they had before?") : null,
      found.state === "failed" ? press("Stage again", "stage") : null),
    facts([["images", number(found.images)], ...Object.entries(found.tags).map(([state, count]) => ["tags " + state, number(count)]),
      found.window_seconds !== null && ["from the first tag to the last", span(found.window_seconds)]]),
    table("Tags of " + name, [
      ["At", (one) => to(one.registry, "registries", one.registry)], ["Tag", (one) => one.repository + ":" + one.tag, "name"],
      ["State", (one) => pill(one.state)], ["Digest", (one) => h("code", null, one.digest)], ["Before", (one) => h("code", null, one.previous || "")],
      ["Moved", (one) => when(one.flipped_at)], ["Why", (one) => one.reason],
    ], tags.items, "It has no tags."),
    tags.next ? h("p", { class: "empty" }, "The first 200; all of them: transship release show " + name) : null,
  ];
}
