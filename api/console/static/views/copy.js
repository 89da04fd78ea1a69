// One copy: its way, how it stands and why, what to press, and its blobs.

import { at, read } from "../api.js";
import { button, facts, h, number, pill, size, span, table, to, when } from "../dom.js";
import { opens, pressesOf } from "./presses.js";

const BLOBS = { copied: "good", mounted: "good", present: "good", failed: "bad", waiting: "now", pending: "now" };
const ATTEMPTS = { again: "now", died: "bad" };
const OVER = ["copied", "unchanged", "skipped", "superseded", "failed", "stopped"];

export async function copy(execution, id, page) {
  const path = "executions/" + at(execution);
  const [found, run] = await Promise.all([read(path + "/copies/" + at(id), { signal: page.signal }), read(path, { signal: page.signal })]);
  const { tries } = found;
  if (run.finished_at && OVER.includes(found.state)) page.live = false; // nothing more will happen
  return [
    h("h1", null, found.destination, " ", pill(found.state)),
    h("p", null, "a copy of ", to(found.rule, "rules", found.rule), ", in execution ", to(execution, "executions", execution),
      "; ", to("where else this image is", "images", found.source.split("/").slice(1).join("/"))),
    found.class || found.reason ? h("section", { "aria-labelledby": "why" },
      h("h2", { id: "why" }, OVER.includes(found.state) ? "Why" : "What it waits for"),
      h("p", null, found.class ? pill(found.class, "bad") : null, " ", found.reason),
      found.meaning ? h("p", null, found.class, " means: ", found.meaning) : null,
      h("p", null, "What to do: ", [found.hint, found.fix].filter(Boolean).join("; ") || "nothing: it goes on by itself"),
      found.class ? h("p", null, pressesOf(found.class, [found], run, page), " ", alone(found, run, page)) : null) : null,
    h("h2", null, "Its way"),
    h("ol", { class: "way" }, found.route.map((one) => h("li", null, to(one, "registries", one)))),
    facts([
      ["source", found.source], found.read_from !== found.source && ["read from", found.behind ?
        to(found.read_from, "executions", execution, "copies", String(found.behind)) : found.read_from],
      ["digest", h("code", null, found.digest || "not known yet")], ["region", found.region],
    ], "wide"),
    h("h2", null, "What it took"),
    facts([
      ["begun", times(found.attempts)], ["failed before that", times(tries.failures)], ["told to wait", times(tries.throttles)],
      ["planned anew", times(tries.replans)], ["process ended", times(tries.crashes)],
      ["last change", when(found.updated_at)], found.next_at && ["next try", when(found.next_at)],
      ["read", size(found.bytes)], ["not read again", size(found.bytes_saved)],
      ["blobs", number(found.blob_counts.copied) + " copied, " + number(found.blob_counts.mounted) + " mounted, " + number(found.blob_counts.present) + " there before"],
    ]),
    h("h2", null, "Attempts"),
    table("Attempts", [
      ["Attempt", (one) => (one.times > 1 ? number(one.number - one.times + 1) + " to " : "") + number(one.number), "figure"],
      ["Came to", (one) => [pill(one.outcome === "again" ? "tried again" : one.outcome === "died" ? "process ended" : one.outcome, ATTEMPTS[one.outcome]),
        one.counted || one.outcome !== "again" ? null : " not counted"]],
      ["Why", (one) => [one.class ? pill(one.class, "bad") : null, " ", one.reason], "why"],
      ["Worker", (one) => [h("code", null, one.worker), one.region ? " in " + one.region : null]],
      ["Read", (one) => size(one.bytes), "figure"], ["Ended", (one) => when(one.ended_at)],
      ["Took", (one) => span((Date.parse(one.ended_at) - Date.parse(one.began_at)) / 1000), "figure"],
    ], found.attempts_log, found.attempts ? "It has not failed: only attempts that did not simply succeed are told." : "It has not been begun."),
    h("h2", null, "Blobs"),
    table("Blobs", [
      ["Digest", (one) => h("code", null, one.digest), "name"], ["Kind", (one) => one.media_type],
      ["Size", (one) => size(one.size), "figure"], ["State", (one) => pill(one.state, BLOBS[one.state])],
      ["Why", (one) => [one.class ? pill(one.class, "bad") : null, " ", one.reason], "why"],
      ["Last change", (one) => when(one.updated_at)],
    ], found.blobs, "One task carried all of it out: it is told blob by blob where a copy is shared out."),
    found.blobs_total > found.blobs.length ? h("p", { class: "empty" }, "and " + number(found.blobs_total - found.blobs.length) + " more") : null,
  ];
}

// Runs the rule for this image and no other, which compares it at each destination first.
function alone(found, run, page) {
  if (!["failed", "superseded", "stopped"].includes(found.state) || !["full", "tags"].includes(run.kind)) return null;
  const only = [found.source.slice(found.route[0].length + 1)];
  return button("Copy this image again", opens(page, "rules/" + at(found.rule) + "/executions", { only }), { "data-key": "alone" });
}

const times = (count) => (count === 1 ? "once" : count === 2 ? "twice" : count ? number(count) + " times" : "never");
