// Regions and the links between them: who sends to whom, how much, at what price.

import { all } from "../api.js";
import { h, number, size, span, table } from "../dom.js";
import { workers } from "./parts.js";

export async function regions(_parts, page) {
  const [found, links] = await Promise.all([all("regions", { signal: page.signal }), all("links", { signal: page.signal })]);
  return [
    h("h1", null, "Regions"),
    table("Regions", [
      ["Region", (one) => one.name],
      ["Jurisdiction", (one) => one.effective.jurisdiction || "none"],
      ["Workers", workers, "figure"],
      ["Slots", (one) => number(one.workers.slots), "figure"],
      ["Waiting", (one) => number(one.queue.waiting), "figure"],
      ["Oldest", (one) => span(one.queue.oldest_seconds), "figure"],
      ["Queues", (one) => ["urgent", "commit", "copy"].map((name) => name + " " + (one.queue[name].depth ?? "-")).join(", ")],
    ], found, "There is no region yet."),
    h("h2", null, "From a region to another"),
    links.length ? matrix(found, links) : h("p", { class: "empty" }, "No link is declared: `links` in transship.yaml."),
  ];
}

function matrix(found, links) {
  const ways = new Map(links.map((one) => [one.name, one]));
  const most = Math.max(1, ...links.map((one) => one.crossed_bytes));
  return h("div", { class: "scrolls" }, h("table", { class: "matrix" },
    h("caption", { class: "unseen" }, "Bytes from each region (rows) to each region (columns)"),
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "from \\ to"), found.map((one) => h("th", { scope: "col" }, one.name)))),
    h("tbody", null, found.map((from) => h("tr", null, h("th", { scope: "row" }, from.name), found.map((there) => {
      const way = ways.get(from.name + ":" + there.name);
      if (!way) return h("td", { "data-title": "to " + there.name }, from === there ? "-" : "");
      const depth = way.crossed_bytes ? 1 + Math.round((3 * way.crossed_bytes) / most) : 0;
      const words = [way.effective.bandwidth, way.effective.cost_per_gib != null && way.effective.cost_per_gib + " a GiB"];
      return h("td", { "data-title": "to " + there.name, class: "depth-" + depth },
        size(way.crossed_bytes), h("br"), h("small", null, words.filter(Boolean).join(", ")));
    }))))));
}
