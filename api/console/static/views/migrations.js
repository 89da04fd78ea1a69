// Migrations: a fleet in waves, from the inventory to the proof.

import { all, at, read, send } from "../api.js";
import { button, facts, h, number, pill, size, span, table, to, when } from "../dom.js";
import { progress } from "./parts.js";

const STATES = { proved: "good", moved: "good", frozen: "good", refused: "bad", paused: "warn", moving: "now", surveying: "now", freezing: "now", proving: "now" };

export async function migrations([name], page) {
  if (name) return one_(name, page);
  const found = await all("migrations", { signal: page.signal });
  return [
    h("h1", null, "Migrations"),
    table("Migrations", [
      ["Migration", (one) => to(one.name, "migrations", one.name)],
      ["From", (one) => one.source], ["To", (one) => one.destination],
      ["State", (one) => pill(one.state, STATES[one.state])],
      ["Waves", (one) => one.waves.filter((wave) => wave.state === "done").length + " of " + one.waves.length + " done"],
      ["Tags", (one) => number(one.inventory?.fleet.tags ?? 0), "figure"],
      ["Unique bytes", (one) => size(one.inventory?.fleet.unique_bytes ?? 0), "figure"],
    ], found, "There is none: `transship migrate --from REGISTRY --to REGISTRY`, or `transship migrations put`."),
  ];
}

async function one_(name, page) {
  const path = "migrations/" + at(name);
  const found = await read(path, { signal: page.signal });
  const looks = ["inventory", "freeze", "proof"].filter((which) => found[which] && Object.keys(found[which].findings).length);
  const findings = await Promise.all(looks.map((which) => read(path + "/findings?limit=50&of=" + which, { signal: page.signal })));
  const press = (text, what, attributes) => button(text, page.does(() => send("POST", path + "/" + what)), { "data-key": what, ...attributes });
  return [
    h("h1", null, name, " ", pill(found.state, STATES[found.state])),
    h("p", null, "from ", to(found.source, "registries", found.source), " to ", to(found.destination, "registries", found.destination)),
    h("p", { class: "actions" },
      press("Take inventory", "inventory"), found.paused_at ? press("Resume", "resume") : press("Pause", "pause"),
      press("Freeze", "freeze"), press("Final delta", "delta"), press("Prove the cut-over", "prove")),
    facts([
      ["repositories", number(found.inventory?.fleet.repositories ?? 0)], ["tags", number(found.inventory?.fleet.tags ?? 0)],
      ["bytes as images count them", size(found.inventory?.fleet.bytes ?? 0)], ["each blob once", size(found.inventory?.fleet.unique_bytes ?? 0)],
      ...["inventory", "freeze", "proof"].map((which) => found[which] && [which, [pill(found[which].state), " ", found[which].reason]]),
    ]),
    h("h2", null, "Waves"),
    table("Waves", [
      ["Wave", (one) => one.name], ["State", (one) => [pill(one.state, STATES[one.state]), " ", one.reason]],
      ["Tags", (one) => number(one.fleet.tags ?? 0), "figure"], ["Unique bytes", (one) => size(one.fleet.unique_bytes ?? 0), "figure"],
      ["Progress", (one) => one.progress ? [progress(one.progress), one.progress.seconds_left !== null ? " " + span(one.progress.seconds_left) + " left" : null] : ""],
      ["Ended", (one) => when(one.ended_at)],
      ["", (one) => [one.execution ? to("Open", "executions", one.execution) : null, " ",
        button("Start", page.does(() => send("POST", path + "/waves/" + at(one.name) + "/start")), { "data-key": "start-" + one.name, "aria-label": "Start wave " + one.name })]],
    ], found.waves),
    looks.map((which, place) => [h("h2", null, "What the " + which + " found"), table("Findings of the " + which, [
      ["Kind", (one) => pill(one.kind, "bad")], ["Tag", (one) => [one.repository, one.tag].filter(Boolean).join(":"), "name"],
      ["At the destination", (one) => one.destination, "name"], ["Why", (one) => one.reason],
    ], findings[place].items)]),
  ];
}
