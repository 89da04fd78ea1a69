// Executions, the newest first.

import { read } from "../api.js";
import { button, h, pill, span, table, when } from "../dom.js";
import { kindOf, ruleOf, stateOf } from "./parts.js";

const STATES = ["", "pending", "running", "stopping", "succeeded", "partial", "failed", "stopped"];

export async function executions(_parts, page) {
  const state = page.state;
  const filter = (state.only ? "&state=" + state.only : "") + (state.rule ? "&rule=" + encodeURIComponent(state.rule) : "");
  const shown = await read("executions?limit=" + (state.most || 50) + filter, { signal: page.signal });
  const field = (name, label, control) => h("label", null, label, " ", control);
  return [
    h("h1", null, "Executions"),
    h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
      field("state", "State", h("select", { "data-key": "state", onchange: page.does((event) => { state.only = event.target.value; }) },
        STATES.map((one) => h("option", { value: one, selected: one === (state.only || "") }, one || "any")))),
      field("rule", "Rule", h("input", { "data-key": "rule", value: state.rule || "", placeholder: "any",
        onchange: page.does((event) => { state.rule = event.target.value.trim(); }) }))),
    table("Executions", [
      ["Rule", ruleOf],
      ["Kind", (one) => kindOf(one).name.split(":")[0]],
      ["State", stateOf],
      ["Begun", (one) => when(one.started_at || one.created_at)],
      ["Took", (one) => span(one.seconds), "figure"],
      ["Trigger", (one) => one.trigger],
      ["Why", (one) => one.class ? [pill(one.class, "bad"), " ", one.reason] : one.reason],
      ["", (one) => h("a", { href: "#/executions/" + encodeURIComponent(one.id), "data-key": one.id }, "Open")],
    ], shown.items, "No execution is like that."),
    shown.next && (state.most || 50) < 200 ? button("Show more", page.does(() => { state.most = 200; })) : null,
  ];
}
