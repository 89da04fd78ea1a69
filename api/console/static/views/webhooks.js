// Webhooks: who is told of what, and whether it has arrived.

import { all, at, read } from "../api.js";
import { h, number, pill, table, to, when } from "../dom.js";

export async function webhooks([name], page) {
  if (name) return one_(name, page);
  const found = await all("webhooks", { signal: page.signal });
  return [
    h("h1", null, "Webhooks"),
    table("Webhooks", [
      ["Webhook", (one) => to(one.name, "webhooks", one.name)], ["Receiver", (one) => one.url, "name"],
      ["Events", (one) => one.effective.events.join(", ")], ["Project", (one) => one.effective.project || "all"],
    ], found, "There is none: `transship webhooks put`."),
  ];
}

async function one_(name, page) {
  const path = "webhooks/" + at(name);
  const [found, sent] = await Promise.all([read(path, { signal: page.signal }), read(path + "/deliveries?limit=100", { signal: page.signal })]);
  return [
    h("h1", null, name),
    h("p", null, found.url),
    table("Deliveries, the newest first", [
      ["Event", (one) => one.event], ["State", (one) => pill(one.state, { delivered: "good", failed: "bad" }[one.state] || "now")],
      ["Attempts", (one) => number(one.attempts), "figure"], ["Answer", (one) => one.status ?? ""], ["Why", (one) => one.reason],
      ["Made", (one) => when(one.created_at)], ["Next", (one) => (one.next_at ? when(one.next_at) : "")],
    ], sent.items, "Nothing has been sent yet."),
  ];
}
