// What several pages show alike.

import { bar, h, number, pill, to, when } from "../dom.js";

export const KINDS = {
  full: { name: "copy", failed: "Failed" },
  tags: { name: "copy of single tags", failed: "Failed" },
  plan: { name: "plan: nothing is written", failed: "Cannot be done", copied: null, unchanged: "in place", pending: "to copy" },
  verify: { name: "verification", failed: "Not whole", copied: null, unchanged: "whole", pending: "not checked yet" },
};
export const kindOf = (execution) => KINDS[execution.kind] || { name: execution.kind, failed: "Failed" };

// The rule of an execution; a promotion's is saved with the execution only.
export const isPromotion = (execution) => execution.trigger === "promotion";
export const ruleOf = (execution) => (isPromotion(execution) ? to(execution.rule, "promotions") : to(execution.rule, "rules", execution.rule));

export function progress(copies) {
  return bar([
    ["copied", copies.copied, "good"], ["unchanged", copies.unchanged, "same"], ["skipped", copies.skipped, "same"],
    ["failed", copies.failed, "bad"], ["to do", copies.pending, "left"],
  ]);
}

// How many workers a region has; of one without any, whose work another's do (one machine), whose they are.
export function workers(region) {
  if (region.workers.processes) return number(region.workers.processes);
  return region.served_by === region.name ? pill("none", region.queue.waiting ? "bad" : "") : "of " + region.served_by;
}

export function stateOf(execution) {
  return [pill(execution.state), execution.held_by?.length ? [" ", pill("paused")] : null];
}

// Why an execution does not move: pauses that it waits behind, copies that are tried again.
export function notesOf(execution) {
  const held = (execution.held_by || []).map((one) => one.reason ?
    [one.kind + " " + one.name + " is held back since ", when(one.paused_at), ", and goes on by itself: " + one.reason] :
    [one.kind + " " + one.name + " is paused since ", when(one.paused_at), ": resume it to let this go on"]);
  const retried = (execution.retrying || []).map((one) =>
    ["to " + one.destination + ": " + one.reason + ": " + number(one.copies) + " to try again, tries so far " + number(one.tries),
      one.next_at ? [", next at ", when(one.next_at)] : ", trying now"]);
  return [...held, ...retried, ...(execution.warnings || [])];
}

export function triggerOf(rule) {
  const { every, schedule, timezone, event } = rule.effective.trigger;
  const written = (rule.trigger || {}).every; // effective is in seconds
  const told = [every && "every " + (written || every), schedule && schedule + " " + (timezone || "UTC"), event && "events"];
  return told.filter(Boolean).join(" + ") || "by hand";
}

export const destinationsOf = (rule) =>
  rule.effective.destinations.map((one) => one.registry || "group " + one.group).join(", ");
