// Promotions: images on their way from stage to stage, what each gate has said, and what to press.

import { at, read, send } from "../api.js";
import { button, facts, h, pill, table, to, when } from "../dom.js";
import { gateWords } from "./pipelines.js";

const STATES = { placed: "good", passed: "good", rejected: "bad", expired: "bad", failed: "bad", refused: "bad", cancelled: "warn" };
const SHOWN = 100;
const stateOf = (one) => pill(one.state, STATES[one.state]);
const nameOf = (place) => place.registry + "/" + place.repository + (place.tag ? ":" + place.tag : "");
const short = (digest) => h("code", { title: digest }, digest.slice(0, 19));

export function rows(caption, found) {
  return table(caption, [
    ["Promotion", (one) => to(nameOf(one.destination), "promotions", one.id), "name"],
    ["To", (one) => to(one.pipeline, "pipelines", one.pipeline)], ["Stage", (one) => one.to],
    ["State", stateOf], ["Digest", (one) => short(one.digest)],
    ["Asked by", (one) => [one.asked_by, one.trigger === "rollback" ? [" ", pill("rollback", "warn")] : null]],
    ["Asked", (one) => when(one.created_at)], ["Why", (one) => one.reason],
  ], found, "There is none: `transship promote PIPELINE REPOSITORY:TAG --to STAGE`.");
}

export async function promotions([identity], page) {
  if (identity) return one_(identity, page);
  const found = await read("promotions?limit=" + SHOWN, { signal: page.signal });
  return [
    h("h1", null, "Promotions"),
    rows("Promotions", found.items),
    found.next ? h("p", { class: "empty" }, "The newest " + SHOWN + "; all of them: transship promotions ls") : null,
  ];
}

async function one_(identity, page) {
  const path = "promotions/" + at(identity);
  const found = await read(path, { signal: page.signal });
  const press = (text, what, question, attributes, body) => button(text, page.does(async () => {
    if (question && !confirm(question)) return;
    const made = await send("POST", path + "/" + what, body);
    if (made.id !== identity) location.hash = "#/promotions/" + encodeURIComponent(made.id);
  }), { "data-key": what, ...attributes });
  const said = { digest: found.digest };
  const waits = found.state === "waiting";
  const approval = waits && found.gate !== null && found.steps[found.gate].kind === "approval";
  const reject = () => button("Reject", page.does(async () => {
    const reason = prompt("Why is " + nameOf(found.destination) + " not promoted?");
    if (reason === null) return; // thought better of it
    await send("POST", path + "/reject", reason ? { ...said, reason } : said);
  }), { "data-key": "reject" });
  return [
    h("h1", null, nameOf(found.destination), " ", stateOf(found)),
    h("p", null, "to stage ", found.to, " of ", to(found.pipeline, "pipelines", found.pipeline),
      found.takes_back ? [", taking back ", to("this promotion", "promotions", found.takes_back)] : null,
      found.reason ? ": " + found.reason : null),
    h("p", { class: "actions" },
      approval ? press("Approve this digest", "approve", "Approve " + found.digest + " for " + found.to + "?", { class: "primary" }, said) : null,
      waits ? reject() : null,
      waits || found.state === "copying" ? press("Cancel", "cancel", "Take this promotion back?", {}) : null,
      found.state === "placed" && found.before ? press("Roll back", "rollback", "Bring " + found.before + " back to " + nameOf(found.destination) + "?", {}, {}) : null),
    facts([
      ["digest", h("code", null, found.digest)], ["from", found.from + ", " + nameOf(found.source)],
      ["asked by", found.asked_by + ", " + found.trigger], ["asked", when(found.created_at)], ["ended", when(found.ended_at)],
      found.execution && ["copied by", to("this execution", "executions", found.execution)],
      found.before && ["before it", h("code", null, found.before)],
    ]),
    h("h2", null, "Gates"),
    table("Gates", [
      ["Gate", (one) => (one.wants ? gateWords(one.wants) : "told afterwards: " + new URL(one.webhook).host)], ["State", stateOf],
      ["By", (one) => one.approvals.map((who) => who.actor).join(", ")],
      ["Until", (one) => (one.state === "waiting" && one.deadline_at ? when(one.deadline_at) : "")],
      ["Ended", (one) => when(one.ended_at)], ["Why", (one) => one.reason],
    ], found.steps, "Nothing stands before this stage."),
    h("h2", null, "History"),
    table("History", [
      ["At", (one) => when(one.at)], ["Who", (one) => one.actor], ["What", (one) => one.event],
      ["Gate", (one) => (one.gate === null ? "" : String(one.gate))], ["Why", (one) => one.reason],
    ], found.history),
  ];
}
