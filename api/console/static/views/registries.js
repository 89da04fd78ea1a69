// Registries: health, what each can do, pause, and a way to add one.

import { all, at, read, Refused, send } from "../api.js";
import { button, facts, h, number, pill, span, table, to, when } from "../dom.js";

export async function registries(_parts, page) {
  const found = await all("registries", { signal: page.signal });
  return [
    h("h1", null, "Registries"),
    h("p", { class: "actions" }, to("Add a registry", "registries", "+new")),
    table("Registries", [
      ["Registry", (one) => to(one.name, "registries", one.name)],
      ["Address", (one) => one.url, "name"],
      ["Provider", (one) => one.effective.provider],
      ["Region", (one) => one.effective.region],
      ["Health", health],
      ["Since", (one) => when(one.health?.since)],
    ], found, "There is no registry yet."),
  ];
}

function health(one) {
  const state = one.health?.state;
  return [state ? pill(state) : pill("not looked at yet"), one.paused_at ? [" ", pill(one.health?.holds ? "held back" : "paused", "warn")] : null,
    one.health?.reason ? [" ", one.health.reason] : null];
}

export async function registry([name], page) {
  if (name === "+new") return editor(page);
  const path = "registries/" + at(name);
  const [found, rules, standing] = await Promise.all([read(path, { signal: page.signal }), all("rules", { signal: page.signal }),
    read(path + "/standing", { signal: page.signal })]);
  const using = rules.filter((one) => one.source === name || one.effective.destinations.some((place) =>
    place.registry === name || (place.group && found.effective.groups.includes(place.group))));
  const { limits, capabilities } = found.effective;
  return [
    h("h1", null, name, " ", health(found)),
    h("p", { class: "actions" },
      button("Test connection", page.does(async () => {
        page.say("Asking the registry ...");
        page.state.findings = (await send("POST", path + "/examination", { write: false })).findings;
        page.say("The registry has been examined.");
      }), { class: "primary", "data-key": "test" }),
      button("Test as a destination", page.does(async () => {
        page.state.findings = (await send("POST", path + "/examination", { write: true })).findings;
      }), { "data-key": "test-write", title: "writes into a scratch repository, and takes it back" }),
      found.paused_at ?
        button("Resume", page.does(() => send("POST", path + "/resume")), { "data-key": "pause" }) :
        button("Pause", page.does(() => send("POST", path + "/pause")), { "data-key": "pause" })),
    facts([
      ["address", found.url], ["provider", found.effective.provider], ["region", found.effective.region],
      found.effective.groups.length && ["groups", found.effective.groups.join(", ")],
      ["credentials", credentials(found.effective.credentials)],
      ["requests a second", limits.requests_per_second ?? "not limited"], ["at once", limits.concurrency ?? "not limited"],
      ["last check", when(found.health?.checked_at)],
    ]),
    h("h2", null, "How much it takes now"),
    facts([
      ["quota left", quota(standing)],
      ["held to", standing.requests_per_second === null ? "nothing: it has not asked for less" : standing.requests_per_second.toFixed(1) + " requests a second, growing back"],
      ["wants nothing for", standing.blocked_seconds ? span(standing.blocked_seconds) : "-"],
      ["processes that ask it now", number(standing.processes)],
    ], "wide"),
    page.state.findings ? [h("h2", null, "What it answered"), table("Findings", [
      ["Ability", (one) => one.name], ["", (one) => pill(one.result, { yes: "good", no: "warn" }[one.result])],
      ["What that means", (one) => one.means], ["Seen", (one) => one.detail],
    ], page.state.findings)] : null,
    h("h2", null, "Rules that use it"),
    table("Rules", [
      ["Rule", (one) => to(one.name, "rules", one.name)],
      ["As", (one) => (one.source === name ? "source" : "destination")],
    ], using, "No rule uses it."),
    h("details", null, h("summary", null, "Capabilities"), facts(Object.entries(capabilities).map(([key, value]) => [key, String(value)]))),
  ];
}

// What it said last of its own quota; most registries say nothing.
function quota({ known, quota: told }) {
  if (!known) return "not known: Redis does not answer";
  if (!told) return "not told";
  return [number(told.left) + (told.limit === null ? "" : " of " + number(told.limit)) + " requests" +
    (told.seconds === null ? "" : " in " + span(told.seconds)) + ", as of ", when(told.told_at)];
}

function credentials(given) {
  const one = Array.isArray(given) ? given : [given];
  return one.map((each) => each.username || (each.keyless && "keyless: " + each.keyless) || (each.docker_config && "docker config") || "none").join(", ");
}

async function editor(page) {
  page.live = false;
  if (page.state.form) return page.state.form;
  const wrong = h("ul", { class: "notes", role: "alert" });
  const field = (id, label, attributes, help) => {
    const input = h("input", { id, autocomplete: "off", spellcheck: "false", ...attributes });
    return [input, h("div", null, h("label", { for: id }, label), h("br"), input, help ? h("div", { class: "empty" }, help) : null)];
  };
  const [name, nameRow] = field("registry-name", "Name", { required: true, pattern: "[a-z0-9][a-z0-9._\\-]{0,62}" }, "small letters and digits: rules name it so");
  const [url, urlRow] = field("registry-url", "Address", { required: true, type: "url", placeholder: "https://registry.example" }, "http:// only where that is meant");
  const [region, regionRow] = field("registry-region", "Region", { placeholder: "local" }, "whose workers copy into it");
  const [user, userRow] = field("registry-user", "User", {}, "leave both empty where nobody signs in");
  const [password, passwordRow] = field("registry-password", "Password or token", { type: "password", autocomplete: "new-password" }, "stored encrypted, and sent to this registry's host only");
  const save = async (event) => {
    event.preventDefault();
    wrong.replaceChildren();
    try {
      const body = { url: url.value };
      if (region.value) body.region = region.value;
      if (user.value) {
        const secret = name.value + "-password";
        await send("PUT", "secrets/" + at(secret), { value: password.value, hosts: [new URL(url.value).host] });
        body.credentials = { username: user.value, secret };
      }
      await send("PUT", "registries/" + at(name.value), body, { "If-None-Match": "*" });
      location.hash = "#/registries/" + encodeURIComponent(name.value);
    } catch (error) {
      const told = error instanceof Refused && error.fields.length ?
        error.fields.map((one) => [one.field, one.message].filter(Boolean).join(": ") + (one.hint ? " (" + one.hint + ")" : "")) : [error.message];
      wrong.replaceChildren(...told.map((one) => h("li", null, one)));
    }
  };
  page.state.form = [
    h("h1", null, "Add a registry"),
    h("form", { class: "editor", onsubmit: save }, nameRow, urlRow, regionRow, userRow, passwordRow, wrong,
      h("p", { class: "actions" }, h("button", { class: "primary" }, "Save"), to("Cancel", "registries")),
      h("p", { class: "empty" }, "Other credentials (keyless, helpers, files), certificates, limits and capabilities: ",
        h("code", null, "transship apply"), " or the API.")),
  ];
  return page.state.form;
}

