// Deletions: what went at a source and is to go at a destination; some wait for somebody.

import { all, at, read, send } from "../api.js";
import { button, h, number, pill, table, to, when } from "../dom.js";

const STATES = ["", "waiting", "pending", "checking", "looking", "done", "cancelled"];

export async function deletions([id], page) {
  if (id) return one_(id, page);
  const state = page.state.only ?? "";
  const found = await read("deletions?limit=100" + (state ? "&state=" + state : ""), { signal: page.signal });
  return [
    h("h1", null, "Deletions"),
    h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
      h("label", null, "State ", h("select", { "data-key": "state", onchange: page.does((event) => { page.state.only = event.target.value; }) },
        STATES.map((one) => h("option", { value: one, selected: one === state }, one || "any"))))),
    table("Deletions", [
      ["Rule", (one) => to(one.rule, "rules", one.rule)],
      ["Registry", (one) => to(one.registry, "registries", one.registry)],
      ["State", (one) => pill(one.state, one.state === "waiting" ? "warn" : "")],
      ["Tags", (one) => number(one.tags) + " of " + number(one.of_tags), "figure"],
      ["Why", (one) => one.reason],
      ["Made", (one) => when(one.created_at)],
      ["", (one) => to("Open", "deletions", one.id)],
    ], found.items, "Nothing is to be deleted."),
  ];
}

async function one_(id, page) {
  const path = "deletions/" + at(id);
  const [found, tags] = await Promise.all([read(path, { signal: page.signal }), all(path + "/tags", { most: 1000, signal: page.signal })]);
  return [
    h("h1", null, "Deletion at ", found.registry, " ", pill(found.state, found.state === "waiting" ? "warn" : "")),
    h("p", null, "of rule ", to(found.rule, "rules", found.rule), ", after ", to("this execution", "executions", found.execution), ": ", found.reason,
      found.due_at ? [" It begins ", when(found.due_at), "."] : null, found.decided_by ? [" Decided by " + found.decided_by + "."] : null),
    h("p", { class: "actions" },
      found.state === "waiting" ? button("Approve", page.does(() => send("POST", path + "/approve")), { class: "primary", "data-key": "approve" }) : null,
      ["checking", "waiting", "pending"].includes(found.state) ? button("Cancel: keep them", page.does(() => send("POST", path + "/cancel")), { "data-key": "cancel" }) : null),
    table("Tags", [
      ["At the destination", (one) => one.tag, "name"], ["Source", (one) => one.source, "name"], ["State", (one) => pill(one.state)],
      ["Digest", (one) => h("code", null, one.digest)], ["Why", (one) => one.reason], ["What to do", (one) => one.hint],
    ], tags, "It has no tags."),
  ];
}
