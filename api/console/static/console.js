// The console: asks the API with the token of this tab. Text from outside reaches the page by
// textContent only; there is no inline code, no cookie and no other host.
"use strict";

const KEY = "transship-token";
const byId = (id) => document.getElementById(id);
let cursor = null;
let watching = null;
let timer = null;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = String(text);
  if (className) made.className = className;
  return made;
}

function row(...cells) {
  const made = document.createElement("tr");
  for (const cell of cells) {
    const place = document.createElement("td");
    place.append(cell instanceof Node ? cell : document.createTextNode(cell ?? ""));
    made.append(place);
  }
  return made;
}

function stateOf(state) {
  return element("span", state, "state " + (state === "failed" ? "failed-state" : state));
}

function tell(message) {
  byId("message").textContent = message || "";
  byId("message").hidden = !message;
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, Authorization: "Bearer " + sessionStorage.getItem(KEY) };
  const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  if (response.status === 401) {
    signOut();
    throw new Error("This token is not valid here.");
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Error([problem.detail || response.statusText, problem.hint].filter(Boolean).join(": "));
  }
  return response;
}

const fetchJson = async (path, options) => (await ask(path, options)).json();

function guarded(action) {
  return async (...given) => {
    try {
      tell("");
      await action(...given);
    } catch (error) {
      if (error.name !== "AbortError") tell(error.message);
    }
  };
}

const when = (text) => (text ? new Date(text).toLocaleString() : "");
const number = (value) => Number(value).toLocaleString();

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"]; // decimal, as on the command line
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return (unit ? bytes.toFixed(1) : bytes) + " " + units[unit];
}

const KINDS = {
  full: { name: "copy", failed: "Failed" },
  tags: { name: "copy of single tags", failed: "Failed" },
  plan: { name: "plan: nothing is written", failed: "Cannot be done", copied: null, unchanged: "in place", pending: "to copy" },
  verify: { name: "verification", failed: "Not whole", copied: null, unchanged: "whole", pending: "not checked yet" },
};
const kindOf = (execution) => KINDS[execution.kind] || { name: execution.kind, failed: "Failed" };

// Why an execution does not move: pauses that it waits behind, copies that are tried again.
function notesOf(execution) {
  const held = (execution.held_by || []).map((one) => one.reason ?
    one.kind + " " + one.name + " is held back since " + when(one.paused_at) + ", and goes on by itself: " + one.reason :
    one.kind + " " + one.name + " is paused since " + when(one.paused_at) + ": `transship " +
    (one.kind === "rule" ? "rules" : "registries") + " resume " + one.name + "` lets it go on");
  const retried = (execution.retrying || []).map((one) =>
    "to " + one.destination + ": " + one.reason + ": " + number(one.copies) + " to try again, tries so far " +
    number(one.tries) + (one.next_at ? ", next at " + when(one.next_at) : ", trying now"));
  return [...held, ...retried];
}

function pausedOr(execution) {
  const made = document.createElement("span");
  made.append(stateOf(execution.state));
  if (execution.held_by && execution.held_by.length) made.append(" ", stateOf("paused"));
  return made;
}

function executionRow(execution) {
  const made = row(
    execution.rule,
    kindOf(execution).name.split(":")[0],
    pausedOr(execution),
    when(execution.started_at || execution.created_at),
    execution.seconds.toFixed(1),
    execution.trigger,
    element("code", execution.id),
  );
  made.className = "opens";
  made.tabIndex = 0;
  const open = guarded(() => watch(execution.id));
  made.addEventListener("click", open);
  made.addEventListener("keydown", (event) => event.key === "Enter" && open());
  return made;
}

async function loadExecutions(older) {
  const query = older && cursor ? "?cursor=" + encodeURIComponent(cursor) : "";
  const page = await fetchJson("/api/v1/executions" + query);
  if (!older) byId("executions").replaceChildren();
  byId("executions").append(...page.items.map(executionRow));
  cursor = page.next;
  byId("more").hidden = !cursor;
}

async function loadDeletions() {
  const page = await fetchJson("/api/v1/deletions?state=waiting&limit=200");
  byId("waiting").hidden = !page.items.length;
  byId("deletions").replaceChildren(...page.items.map((one) => row(
    one.rule,
    one.registry,
    number(one.tags) + " of " + number(one.of_tags),
    one.reason,
    element("code", "transship deletions approve " + one.id),
  )));
}

function triggerOf(rule) {
  const { every, schedule, timezone, event } = rule.effective.trigger;
  const written = (rule.trigger || {}).every; // effective is in seconds
  const told = [every && "every " + (written || every), schedule && schedule + " " + (timezone || "UTC"), event && "events"];
  return told.filter(Boolean).join(" + ") || "by hand";
}

function standingOf(rule) {
  if (rule.paused_at) return stateOf("paused");
  return rule.effective.enabled ? "" : "disabled";
}

async function loadRules() {
  const rows = [];
  let next = null;
  do {
    const page = await fetchJson("/api/v1/rules?limit=200" + (next ? "&cursor=" + encodeURIComponent(next) : ""));
    for (const rule of page.items) {
      const run = element("button", "Run");
      run.addEventListener("click", guarded(async () => {
        const path = "/api/v1/rules/" + encodeURIComponent(rule.name) + "/executions";
        const execution = await fetchJson(path, { method: "POST" });
        await loadExecutions(false);
        await watch(execution.id);
      }));
      const to = rule.effective.destinations.map((one) => one.registry || "group " + one.group).join(", ");
      rows.push(row(rule.name, rule.source, to, triggerOf(rule), standingOf(rule), run));
    }
    next = page.next;
  } while (next);
  byId("rules").replaceChildren(...rows);
}

function show(execution) {
  byId("detail").hidden = false;
  byId("detail-rule").textContent = execution.rule;
  byId("detail-state").replaceWith(Object.assign(pausedOr(execution), { id: "detail-state" }));
  byId("detail-kind").textContent = kindOf(execution).name;
  byId("detail-id").textContent = execution.id;
  byId("detail-time").textContent = execution.seconds.toFixed(1) + " s";
  byId("detail-reason").textContent = execution.reason;
  const copies = execution.copies;
  const all = Math.max(1, copies.copied + copies.unchanged + copies.skipped + copies.failed + copies.pending);
  for (const part of ["copied", "unchanged", "failed"]) {
    byId("bar").querySelector("." + part).style.width = (100 * copies[part]) / all + "%";
  }
  const kind = kindOf(execution);
  byId("failures-title").textContent = kind.failed;
  const tags = ["copied", "unchanged", "skipped", "failed", "pending"]
    .filter((name) => kind[name] !== null)
    .map((name) => [name === "failed" ? kind.failed.toLowerCase() : kind[name] || name, number(copies[name])]);
  const figures = kind.copied === null ? tags : [
    ...tags,
    ["blobs copied", number(execution.blobs.copied)],
    ["blobs mounted", number(execution.blobs.mounted)],
    ["read from the source", size(execution.bytes.copied)],
    ["not read again", size(execution.bytes.saved)],
  ];
  byId("totals").replaceChildren(...figures.map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(element("dt", name), element("dd", value));
    return pair;
  }));
  const notes = [...notesOf(execution), ...execution.warnings];
  byId("warnings").replaceChildren(...notes.map((text) => element("li", text)));
  byId("stop").hidden = !["pending", "running"].includes(execution.state);
}

async function showFailures(id) {
  const page = await fetchJson("/api/v1/executions/" + id + "/copies?state=failed&state=superseded&limit=200");
  byId("failed").hidden = !page.items.length;
  byId("failures").replaceChildren(
    ...page.items.map((copy) => row(copy.source, copy.destination, copy.class, copy.reason, copy.hint)),
  );
}

function leaveDetail() {
  if (watching) watching.abort();
  watching = null;
  byId("detail").hidden = true;
}

async function watch(id) {
  leaveDetail();
  const mine = (watching = new AbortController());
  byId("failures").replaceChildren();
  byId("failed").hidden = true;
  byId("stop").onclick = guarded(() => ask("/api/v1/executions/" + id + "/stop", { method: "POST" }));
  show(await fetchJson("/api/v1/executions/" + id));
  await showFailures(id);
  let ended = false;
  while (!ended && watching === mine) {
    const response = await ask("/api/v1/executions/" + id + "/events", { signal: mine.signal });
    ended = await follow(response.body.getReader());
  }
  await showFailures(id);
  await loadExecutions(false);
}

async function follow(reader) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return false;
    text += decoder.decode(value, { stream: true });
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const name = /^event: (.*)$/m.exec(event);
      const data = /^data: (.*)$/m.exec(event);
      if (!name || !data) continue;
      if (name[1] === "problem") return true;
      show(JSON.parse(data[1]));
      if (name[1] === "end") return true;
    }
  }
}

function signOut() {
  sessionStorage.removeItem(KEY);
  leaveDetail();
  clearInterval(timer);
  for (const id of ["executions", "rules", "failures", "totals", "deletions"]) byId(id).replaceChildren();
  byId("signed-in").hidden = true;
  byId("leave").hidden = true;
  byId("sign-in").hidden = false;
}

async function loadAll() {
  await loadExecutions(false);
  if (!byId("rules").contains(document.activeElement)) await loadRules();
  await loadDeletions();
}

const signIn = guarded(async () => {
  await loadExecutions(false);
  byId("sign-in").hidden = true;
  byId("signed-in").hidden = false;
  byId("leave").hidden = false;
  timer = setInterval(guarded(() => document.hidden || watching ? null : loadAll()), 5000);
  await loadRules();
  await loadDeletions();
});

byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("token").value.trim());
  byId("token").value = "";
  signIn();
});
byId("leave").addEventListener("click", () => signOut());
byId("close").addEventListener("click", () => leaveDetail());
byId("more").addEventListener("click", guarded(() => loadExecutions(true)));
if (sessionStorage.getItem(KEY)) signIn();
else signOut();
