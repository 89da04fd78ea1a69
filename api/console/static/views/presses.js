// Failures by class: what each class means, what to do about it, and what to press. The one place that says so.

import { at, read, send } from "../api.js";
import { button, h, number, pill, table, to } from "../dom.js";
import { isPromotion } from "./parts.js";

const MOST_REGISTRIES = 4;

// What mends a class. `registries`: the pages of those that took part, where Test connection says what is wrong now;
// `edit`: the rule's document; `retry`: what failed with this class, once more; `repair`: verify the rule and copy again what is not
// whole; `run`: the rule; `plan`: another plan; `regions`: where workers are; `resume`: the pages of what is paused.
const PRESSES = {
  network: ["retry", "registries"],
  throttled: ["registries", "retry"],
  server: ["retry", "registries"],
  auth: ["registries", "retry"],
  denied: ["registries", "retry"],
  gone: ["edit", "retry"],
  invalid: ["edit", "retry"],
  corrupt: ["retry", "repair"],
  policy: ["edit", "registries"],
  region: ["regions", "retry"],
  conflict: ["edit", "retry"],
  superseded: ["retry"],
  stopped: ["retry"],
  paused: ["registries", "retry"],
  moved: ["plan"],
  missing: ["run", "repair"],
  stale: ["run", "repair"],
  hole: ["repair"],
  bug: ["retry"],
};
const UNKNOWN = ["retry", "registries"];

// Stopped with copies left: those that newer executions took over are nobody's to run again.
export const wasStopped = (found) => found.state === "stopped" && found.copies.skipped > 0;

export const mayRetry = (found) =>
  !isPromotion(found) && found.finished_at && (found.copies.failed + found.copies.pending > 0 || wasStopped(found)) && ["full", "tags"].includes(found.kind);

// Does `method path`, and opens the execution that it answers.
export const opens = (page, path, body) => page.does(async () => {
  const made = await send("POST", path, body);
  location.hash = "#/executions/" + encodeURIComponent(made.id);
});

// The report of an ended execution of which something failed, or null: one question, whatever the number of copies.
export async function failuresOf(found, page) {
  if (!found.finished_at || !(found.copies.failed || found.class || wasStopped(found))) return null;
  const report = await read("reports?receipt=false&execution=" + at(found.id), { signal: page.signal });
  const whole = report.failures.filter((one) => one.source === null); // it failed as a whole, before there was any copy
  if (whole.length) {
    const rule = await read("rules/" + at(found.rule), { signal: page.signal }).catch(() => null); // it may be gone
    for (const one of whole) one.registries = rule ? [rule.source, ...rule.effective.destinations.map((place) => place.registry)] : [];
  }
  if (wasStopped(found)) report.failure_classes.push(...(await stopped(found, page)));
  return report.failure_classes.length ? report : null;
}

// The class of what a stop has left undone, in the words that the API has for a copy of it; none of it has failed.
async function stopped(found, page) {
  const path = "executions/" + at(found.id) + "/copies";
  const { items } = await read(path + "?state=stopped&limit=1", { signal: page.signal });
  if (!items.length) return [];
  const { meaning, fix } = await read(path + "/" + items[0].id, { signal: page.signal });
  return [{ class: items[0].class, copies: null, meaning, fix }];
}

// Buttons and links for one class of a report's failures, or for one copy: `failures` are those that bear it.
export function pressesOf(name, failures, found, page, where = "") {
  const key = (what) => ({ "data-key": [what, name, where].join("-") });
  const taking = new Set(failures.flatMap((one) => [one.source, one.destination, ...(one.registries || [])]).filter(Boolean).map((one) => one.split("/")[0]));
  const again = () => isPromotion(found) ? to("Ask for the promotion again", "promotions") : button("Run the rule", opens(page, "rules/" + at(found.rule) + "/executions"), key("run"));
  const kinds = {
    retry: () => mayRetry(found) ?
      button("Retry", opens(page, "executions/" + at(found.id) + "/retry", PRESSES[name] && { class: [name] }), { ...key("retry"), title: "runs again what failed as " + name + " here, and nothing else" }) :
      !found.finished_at ? [] : found.kind === "verify" ? kinds.repair() : found.kind === "plan" ? kinds.plan() : again(),
    run: again,
    plan: () => button("Plan again", opens(page, "plans", { rule: found.rule }), key("plan")),
    repair: () => isPromotion(found) ? again() : button("Verify and repair", opens(page, "verifications", { rule: found.rule, repair: true }), key("repair")),
    edit: () => isPromotion(found) ? again() : to("Edit the rule", "rules", found.rule, "edit"),
    regions: () => to("See where workers are", "regions"),
    registries: () => taking.size ? [...taking].slice(0, MOST_REGISTRIES).map((one) => to("Test " + one, "registries", one)) : to("Test its registries", "rules", found.rule),
  };
  const made = (PRESSES[name] || UNKNOWN).map((what) => kinds[what]()).flat();
  const words = new Set();
  return h("span", { class: "actions" }, made.filter((one) => !words.has(one.textContent) && words.add(one.textContent)));
}

export function failures(report, found, page) {
  return h("section", { "aria-labelledby": "failures" },
    h("h2", { id: "failures" }, "Failures by class"),
    table("Failures by class", [
      ["Class", (one) => pill(one.class, "bad")],
      ["Copies", (one) => (one.copies === null ? "the rest" : number(one.copies)), "figure"],
      ["What it means", (one) => one.meaning],
      ["What to do", (one) => one.fix],
      ["Press", (one) => pressesOf(one.class, report.failures.filter((failure) => failure.class === one.class), found, page)],
    ], report.failure_classes),
    report.rule_file ? h("details", null, h("summary", null, "A rule file of what failed"), h("pre", null, JSON.stringify(report.rule_file, null, 2))) : null);
}
