// All rules, what each is at, and a way to make one.

import { all, at, send } from "../api.js";
import { button, h, pill, table, to, when } from "../dom.js";
import { destinationsOf, triggerOf } from "./parts.js";

const STARTING = { source: "", select: [{ repositories: ["**"] }], destinations: [{ registry: "", repository: "{repository}" }] };

export async function rules(_parts, page) {
  const found = await all("rules", { signal: page.signal });
  const word = (page.state.word || "").toLowerCase();
  const shown = found.filter((one) => !word || [one.name, one.source, destinationsOf(one)].join(" ").toLowerCase().includes(word));
  return [
    h("h1", null, "Rules"),
    h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
      h("label", null, "Find ", h("input", { type: "search", "data-key": "find", value: page.state.word || "",
        onchange: page.does((event) => { page.state.word = event.target.value; }) })),
      to("New rule", "rules", "+new")),
    table("Rules", [
      ["Rule", (one) => to(one.name, "rules", one.name)],
      ["From", (one) => one.source],
      ["To", destinationsOf],
      ["Trigger", triggerOf],
      ["Next", (one) => when(one.next_run_at)],
      ["Standing", standing],
      ["", (one) => button("Run", page.does(async () => {
        const made = await send("POST", "rules/" + at(one.name) + "/executions");
        location.hash = "#/executions/" + encodeURIComponent(made.id);
      }), { "data-key": "run-" + one.name, "aria-label": "Run " + one.name })],
    ], shown, found.length ? "No rule is like that." : "There is no rule yet: make one, or `transship apply -f transship.yaml`."),
  ];
}

export function standing(one) {
  const told = one.alerts.map((alert) => pill(alert.kind, "warn"));
  if (one.paused_at) told.push(pill("paused"));
  if (!one.effective.enabled) told.push(pill("disabled", "warn"));
  return told.length ? told : pill("active", "good");
}

export { STARTING };
