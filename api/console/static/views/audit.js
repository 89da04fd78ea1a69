// The audit log: who changed what, and whether the chain holds.

import { read } from "../api.js";
import { button, h, number, pill, table, when } from "../dom.js";

export async function audit(_parts, page) {
  const state = page.state;
  const filter = ["kind", "name", "actor", "action"].filter((key) => state[key]).map((key) => "&" + key + "=" + encodeURIComponent(state[key])).join("");
  const found = await read("audit?limit=100" + filter, { signal: page.signal });
  const field = (key, label) => h("label", null, label, " ", h("input", { "data-key": key, value: state[key] || "", placeholder: "any", size: 12,
    onchange: page.does((event) => { state[key] = event.target.value.trim(); }) }));
  return [
    h("h1", null, "Audit"),
    h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
      field("kind", "Kind"), field("name", "Name"), field("actor", "By"), field("action", "What"),
      button("Check the chain", page.does(async () => { state.verdict = await read("audit/verification"); }), { "data-key": "check" }),
      state.verdict ? (state.verdict.broken ? pill("broken at row " + state.verdict.broken + ": " + state.verdict.reason, "bad") :
        pill(number(state.verdict.rows) + " rows, unbroken", "good")) : null),
    table("Changes, the newest first", [
      ["When", (one) => when(one.at)], ["By", (one) => one.actor], ["What", (one) => one.action], ["Kind", (one) => one.kind],
      ["Name", (one) => one.name, "name"], ["Project", (one) => one.project],
      ["Change", (one) => one.before || one.after ? h("details", null, h("summary", null, "show"), h("pre", null, JSON.stringify({ before: one.before, after: one.after }, null, 1))) : ""],
    ], found.items, "Nothing was changed like that."),
  ];
}
