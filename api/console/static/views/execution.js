// One execution: how far it is, what failed by class with what to press, and every copy.

import { at, follow, read, send } from "../api.js";
import { button, facts, h, number, pill, size, span, table, to, when } from "../dom.js";
import { kindOf, notesOf, progress, ruleOf, stateOf } from "./parts.js";
import { copy } from "./copy.js";
import { failures, failuresOf, mayRetry, opens, pressesOf, wasStopped } from "./presses.js";

const OPEN = ["pending", "running", "stopping"];
const COPY_STATES = ["", "pending", "running", "copying", "waiting", "copied", "skipped", "failed", "superseded", "stopped"];

export async function execution([id, what, number_], page) {
  if (what === "copies" && number_) return copy(id, number_, page);
  const state = page.state;
  const path = "executions/" + at(id);
  const found = await read(path, { signal: page.signal });
  if (OPEN.includes(found.state) && !state.followed) followIt(path, page);
  const wanted = state.copies ?? (found.copies.failed ? "failed" : "");
  const query = (wanted ? "&state=" + wanted : "") + (state.cursor ? "&cursor=" + encodeURIComponent(state.cursor) : "");
  const [copies, report] = await Promise.all([
    read(path + "/copies?limit=50" + query, { signal: page.signal }),
    failuresOf(found, page),
  ]);
  return [
    h("h1", null, ruleOf(found), " ", stateOf(found)),
    h("p", null, kindOf(found).name, " ", h("code", null, found.id), ", begun ", when(found.started_at || found.created_at),
      " by " + found.trigger, found.reason ? [": ", found.class ? pill(found.class, "bad") : null, " ", found.reason] : null,
      found.class && !found.finished_at ? [" ", pressesOf(found.class, [], found, page)] : null),
    h("div", { class: "live" }, figures(found, page)),
    actions(found, path, page),
    report ? failures(report, found, page) : null,
    copyTable(copies, wanted, page),
  ];
}

function figures(found, page) {
  const kind = kindOf(found);
  const { copies } = found;
  const done = copies.copied + copies.unchanged + copies.skipped + copies.failed;
  const rate = found.seconds > 1 ? found.bytes.copied / found.seconds : null;
  const left = OPEN.includes(found.state) && found.planned && done && copies.pending ? (found.seconds / done) * copies.pending : null;
  return [
    progress(copies),
    facts([
      ...["copied", "unchanged", "skipped", "failed", "pending"].filter((name) => kind[name] !== null)
        .map((name) => [kind[name] && name !== "failed" ? kind[name] : name, number(copies[name])]),
      ["took", span(found.seconds)],
      left !== null && ["left, at this pace", span(left)],
      kind.copied !== null && ["read from the source", size(found.bytes.copied)],
      kind.copied !== null && ["not read again", size(found.bytes.saved)],
      rate && kind.copied !== null && ["a second", size(rate)],
    ]),
    notes(found, page),
    found.links?.length ? table("Bytes by way", [
      ["From", (one) => one.from], ["To", (one) => one.to],
      ["Bytes", (one) => size(one.bytes), "figure"], ["Copies", (one) => number(one.copies), "figure"],
    ], found.links) : null,
  ];
}

// The figures move as they change; the whole page is shown anew at the end, and every few seconds.
async function followIt(path, page) {
  page.state.followed = true;
  try {
    await follow(path + "/events", (name, data) => {
      const place = document.querySelector("#view .live");
      if (place) place.replaceChildren(...figures(data, page).flat(Infinity).filter(Boolean));
      if (name === "end") page.say("The execution has ended: " + data.state);
      return name === "end" || name === "problem";
    }, page.signal);
    await page.again();
  } catch (error) {
    page.failed(error);
  } finally {
    page.state.followed = false;
  }
}

function actions(found, path, page) {
  return h("p", { class: "actions" },
    found.kind === "plan" && ["succeeded", "partial"].includes(found.state) &&
      button("Carry it out", opens(page, "plans/" + at(found.id) + "/executions"), { "data-key": "carry", class: "primary" }),
    ["pending", "running"].includes(found.state) &&
      button("Stop", page.does(() => send("POST", path + "/stop")), { "data-key": "stop" }),
    mayRetry(found) &&
      button(wasStopped(found) ? "Run what is left" : "Retry what failed", opens(page, path + "/retry"), { "data-key": "retry", class: "primary" }));
}

// What it waits for, each with what to press meanwhile.
function notes(found, page) {
  const told = notesOf(found);
  const presses = [
    ...(found.held_by || []).map((one) => to("See " + one.name, one.kind === "rule" ? "rules" : "registries", one.name)),
    ...(found.retrying || []).map((one) => pressesOf(one.class, [{ destination: one.destination }], found, page, one.destination)),
  ];
  return told.length ? h("ul", { class: "notes" }, told.map((one, index) => h("li", null, one, presses[index] ? [" ", presses[index]] : null))) : null;
}

function copyTable(copies, wanted, page) {
  const state = page.state;
  return h("section", { "aria-labelledby": "copies" },
    h("h2", { id: "copies" }, "Copies"),
    h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
      h("label", null, "State ", h("select", { "data-key": "copies", onchange: page.does((event) => { state.copies = event.target.value; state.cursor = null; }) },
        COPY_STATES.map((one) => h("option", { value: one, selected: one === wanted }, one || "any"))))),
    table("Copies", [
      ["Source", (one) => to(one.source, "executions", one.execution, "copies", String(one.id)), "name"],
      ["Destination", (one) => one.destination, "name"],
      ["State", (one) => pill(one.state)],
      ["Bytes", (one) => size(one.bytes), "figure"],
      ["Attempts", (one) => number(one.attempts), "figure"],
      ["Why, and what to do", (one) => [one.class ? pill(one.class, "bad") : null, " ", one.reason, one.hint ? h("span", { class: "hint" }, one.hint) : null], "why"],
    ], copies.items, "No copy is like that; unchanged tags make none."),
    h("p", { class: "actions" },
      state.cursor ? button("First page", page.does(() => { state.cursor = null; }), { "data-key": "first" }) : null,
      copies.next ? button("Next page", page.does(() => { state.cursor = copies.next; }), { "data-key": "next" }) : null));
}
