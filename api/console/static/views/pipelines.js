// Pipelines: the stages that images pass, what stands before each, and what was promoted there.

import { all, at, read } from "../api.js";
import { h, pill, table, to } from "../dom.js";
import { rows } from "./promotions.js";

const SHOWN = 50;

export async function pipelines([name], page) {
  if (name) return one_(name, page);
  const found = await all("pipelines", { signal: page.signal });
  return [
    h("h1", null, "Pipelines"),
    table("Pipelines", [
      ["Pipeline", (one) => to(one.name, "pipelines", one.name)],
      ["Stages", (one) => one.stages.map((stage) => stage.name).join(" → ")],
      ["Project", (one) => one.effective.project],
    ], found, "There is none: write `pipelines` into transship.yaml and `transship apply` it."),
  ];
}

async function one_(name, page) {
  const [found, past] = await Promise.all([
    read("pipelines/" + at(name), { signal: page.signal }),
    read("promotions?limit=" + SHOWN + "&pipeline=" + at(name), { signal: page.signal }),
  ]);
  return [
    h("h1", null, name),
    table("Stages of " + name, [
      ["Stage", (one) => one.name], ["Registry", (one) => to(one.registry, "registries", one.registry)],
      ["Name there", (one) => one.repository + ":" + one.tag, "name"],
      ["Gates", (one) => (one.gates || []).map(gateWords).join(", then ") || "none"],
      ["", (one) => [one.auto ? pill("automatic", "now") : null, " ", one.after ? pill("tells " + new URL(one.after.webhook).host) : null]],
    ], found.effective.stages),
    h("h2", null, "Promotions"),
    rows("Promotions of " + name, past.items),
    past.next ? h("p", { class: "empty" }, "The newest " + SHOWN + "; all of them: transship promotions ls --pipeline " + name) : null,
  ];
}

export function gateWords(gate) {
  if (gate.approval) return gate.approval.count + (gate.approval.count > 1 ? " approvals" : " approval") + " by " + gate.approval.role + "s";
  if (gate.scan) return "scan, nothing worse than " + gate.scan.worst;
  return gate.webhook ? "webhook " + new URL(gate.webhook).host : "signature";
}
