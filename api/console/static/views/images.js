// Where an image is: one row a registry.

import { at, read } from "../api.js";
import { h, pill, table, to } from "../dom.js";

const STATES = { whole: "good", source: "now", copying: "now", stale: "warn", hole: "bad", blocked: "bad", unknown: "", "not wanted": "" };

export async function images([reference], page) {
  const state = page.state;
  const [repository, tag] = split(reference);
  const found = repository ? await read("images/" + repository.split("/").map(encodeURIComponent).join("/") + "/" + at(tag) +
    "/locations" + (state.prove ? "?prove=true" : ""), { signal: page.signal }) : null;
  if (state.prove) page.live = false; // it asks registries: once is enough
  const input = h("input", { "data-key": "reference", value: reference || "", placeholder: "team/app:v1", size: 40, "aria-label": "Image" });
  const go = (prove) => async (event) => {
    event.preventDefault();
    state.prove = prove;
    const address = "#/images/" + encodeURIComponent(input.value.trim());
    if (location.hash === address) await page.does(() => null)(event);
    else location.hash = address;
  };
  return [
    h("h1", null, "Where is an image?"),
    h("form", { class: "filters", onsubmit: go(false) },
      h("label", null, "Repository and tag ", input), h("button", { class: "primary" }, "Look"),
      h("button", { type: "button", onclick: go(true), "data-key": "prove" }, "Ask the registries")),
    found ? table("Locations of " + reference, [
      ["Registry", (one) => to(one.registry, "registries", one.registry), "word"],
      ["State", (one) => pill(one.state, STATES[one.state])],
      ["Proved", (one) => (one.proved ? pill("proved", "good") : "")],
      ["As", (one) => [one.repository, one.reference].filter(Boolean).join(":"), "name"],
      ["Digest", (one) => h("code", null, one.digest || "")],
      ["Rule", (one) => (one.rule ? to(one.rule, "rules", one.rule) : ""), "word"],
      ["Why", (one) => one.why],
    ], found.locations, "No rule takes this image.") : h("p", { class: "empty" }, "Write a repository and a tag of a source: what is known of it at each registry."),
  ];
}

function split(reference) {
  if (!reference) return [null, null];
  const place = reference.lastIndexOf("@") > 0 ? reference.lastIndexOf("@") : reference.lastIndexOf(":");
  return place > 0 ? [reference.slice(0, place), reference.slice(place + 1)] : [reference, "latest"];
}

