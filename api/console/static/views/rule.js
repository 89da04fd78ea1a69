// One rule: how it stands, what to press, and its document, edited with a preview of what it would do.

import { all, at, read, Refused, send } from "../api.js";
import { button, facts, h, number, pill, size, span, table, to, when } from "../dom.js";
import { destinationsOf, stateOf, triggerOf } from "./parts.js";
import { standing, STARTING } from "./rules.js";

const READ_ONLY = ["alerts", "created_at", "effective", "late_since", "name", "next_run_at", "paused_at", "set", "updated_at", "version"];

export async function rule([name, what], page) {
  if (name === "+new") return editor(page, null);
  const path = "rules/" + at(name);
  const found = await read(path, { signal: page.signal });
  if (what === "edit") return editor(page, found);
  const [lag, runs] = await Promise.all([
    read(path + "/lag", { signal: page.signal }),
    read("executions?limit=10&rule=" + encodeURIComponent(name), { signal: page.signal }),
  ]);
  const run = (path_, body) => page.does(async () => {
    const made = await send("POST", path_, body);
    location.hash = "#/executions/" + encodeURIComponent(made.id);
  });
  return [
    h("h1", null, name, " ", standing(found)),
    found.alerts.length ? h("ul", { class: "notes" }, found.alerts.map((one) => h("li", null, one.kind + ": " + one.reason))) : null,
    h("p", { class: "actions" },
      button("Run", run(path + "/executions"), { class: "primary", "data-key": "run" }),
      button("Plan", run("plans", { rule: name }), { "data-key": "plan" }),
      button("Verify", run("verifications", { rule: name }), { "data-key": "verify" }),
      found.paused_at ?
        button("Resume", page.does(() => send("POST", path + "/resume")), { "data-key": "pause" }) :
        button("Pause", page.does(() => send("POST", path + "/pause")), { "data-key": "pause" }),
      to("Edit", "rules", name, "edit")),
    facts([
      ["from", found.source], ["to", destinationsOf(found)], ["trigger", triggerOf(found)],
      found.next_run_at && ["next run", when(found.next_run_at)],
      ["project", found.effective.project], ["priority", found.effective.priority],
      lag.objective_seconds !== null && ["objective", span(lag.objective_seconds)],
    ]),
    h("h2", null, "Freshness"),
    table("Lag by destination", [
      ["Destination", (one) => one.registry], ["Region", (one) => one.region],
      ["Behind", (one) => one.seconds ? span(one.seconds) : pill("in step", "good")],
      ["Waiting", (one) => number(one.waiting), "figure"],
      ["Last change took", (one) => span(one.last_seconds), "figure"], ["Last change", (one) => when(one.last_at)],
    ], lag.destinations, "It has no destination."),
    h("h2", null, "Executions"),
    table("Executions of " + name, [
      ["State", stateOf], ["Kind", (one) => one.kind], ["Begun", (one) => when(one.started_at || one.created_at)],
      ["Took", (one) => span(one.seconds), "figure"], ["Trigger", (one) => one.trigger],
      ["Why", (one) => one.class ? [pill(one.class, "bad"), " ", one.reason] : one.reason],
      ["", (one) => to("Open", "executions", one.id)],
    ], runs.items, "It has not run yet."),
    h("h2", null, "Document"),
    h("pre", null, JSON.stringify(documentOf(found), null, 2)),
  ];
}

function documentOf(found) {
  return Object.fromEntries(Object.entries(found).filter(([key]) => !READ_ONLY.includes(key)));
}

async function editor(page, found) {
  page.live = false; // nobody's words are taken away
  if (page.state.form) return page.state.form;
  const registries = await all("registries", { signal: page.signal });
  const wrong = h("ul", { class: "notes", role: "alert" });
  const preview = h("div", { role: "status" });
  const nameField = h("input", { id: "rule-name", required: true, pattern: "[a-z0-9][a-z0-9._\\-]{0,62}", value: found?.name || "", disabled: Boolean(found) });
  const text = h("textarea", { id: "rule-text", rows: 20, spellcheck: "false" });
  text.value = JSON.stringify(found ? documentOf(found) : STARTING, null, 2);
  const pick = (id, label, set) => [h("label", { for: id }, label), h("select", { id, onchange: (event) => { if (event.target.value) change(set, event.target.value); } },
    h("option", { value: "" }, "-"), registries.map((one) => h("option", { value: one.name }, one.name)))];
  const change = (set, value) => {
    try {
      const now = JSON.parse(text.value);
      set(now, value);
      text.value = JSON.stringify(now, null, 2);
    } catch (error) {
      wrong.replaceChildren(h("li", null, "This is not JSON: " + error.message));
    }
  };
  const act = (action) => async (event) => {
    event.preventDefault();
    wrong.replaceChildren();
    preview.replaceChildren();
    try {
      await action(JSON.parse(text.value));
    } catch (error) {
      const told = error instanceof Refused && error.fields.length ?
        error.fields.map((one) => [one.field, one.message].filter(Boolean).join(": ") + (one.hint ? " (" + one.hint + ")" : "")) :
        [error instanceof SyntaxError ? "This is not JSON: " + error.message : error.message];
      wrong.replaceChildren(...told.map((one) => h("li", null, one)));
    }
  };
  const headers = found ? { "If-Match": '"' + found.version + '"' } : { "If-None-Match": "*" };
  const save = act(async (body) => {
    await send("PUT", "rules/" + at(nameField.value), body, headers);
    location.hash = "#/rules/" + encodeURIComponent(nameField.value);
  });
  page.state.form = [
    h("h1", null, found ? "Edit " + found.name : "New rule"),
    registries.length ? null : h("p", { class: "notes" }, "There is no registry yet: ", to("add one", "registries"), " first."),
    h("form", { class: "editor", onsubmit: save },
      h("label", { for: "rule-name" }, "Name"), nameField,
      h("div", { class: "filters" },
        pick("rule-source", "From", (now, value) => { now.source = value; }),
        pick("rule-destination", "To", (now, value) => { now.destinations = [{ repository: "{repository}", ...(now.destinations || [])[0], registry: value }]; })),
      h("label", { for: "rule-text" }, "What it copies, and where to (JSON; the keys of transship.yaml)"), text,
      wrong,
      h("p", { class: "actions" },
        h("button", { class: "primary" }, "Save"),
        button("Preview what its filters take", act(async (body) => { await previewOf(nameField.value || "preview", body, preview, page); })),
        to("Cancel", "rules", ...(found ? [found.name] : [])))),
    preview,
  ];
  return page.state.form;
}

export function whatPlanSays(plan) {
  return [
    h("h2", null, "It would copy"),
    facts([
      ["tags", number(plan.copies)], ["bytes to read", size(plan.bytes.unique)], ["bytes spared", size(plan.bytes.saved)],
      plan.seconds_needed !== null && ["about", span(plan.seconds_needed)], plan.cost !== null && ["cost", number(plan.cost)],
    ]),
    table("Problems", [
      ["Source", (one) => one.source, "name"], ["Destination", (one) => one.destination, "name"], ["Why", (one) => one.reason],
    ], plan.problems, plan.reason || "Nothing stands in its way."),
  ];
}

// What the filters take: a plan of the rule as it is written here, which writes nothing anywhere.
async function previewOf(name, body, place, page) {
  place.replaceChildren(h("p", { class: "empty" }, "Planning ..."));
  const made = await send("POST", "plans", { rule: name, document: body });
  for (;;) {
    const plan = await read("plans/" + at(made.id), { signal: page.signal });
    if (!["pending", "running"].includes(plan.state)) {
      place.replaceChildren(...whatPlanSays(plan), h("p", null, to("Every tag that it takes", "executions", made.id)));
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}
