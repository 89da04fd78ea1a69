// Verifications: whether what the rules say is whole at the destinations.

import { all, read, send } from "../api.js";
import { button, h, number, pill, span, table, to, when } from "../dom.js";

export async function verifications(_parts, page) {
  const [found, rules] = await Promise.all([read("verifications?limit=50", { signal: page.signal }), all("rules", { signal: page.signal })]);
  const rule = h("select", { id: "verify-rule", "data-key": "rule", onchange: (event) => { page.state.rule = event.target.value; } },
    rules.map((one) => h("option", { value: one.name, selected: one.name === page.state.rule }, one.name)));
  const begin = (repair) => page.does(async () => {
    await send("POST", "verifications", { rule: rule.value, repair });
  });
  return [
    h("h1", null, "Verifications"),
    rules.length ? h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
      h("label", { for: "verify-rule" }, "Rule"), rule,
      button("Verify", begin(false), { class: "primary", "data-key": "verify" }),
      button("Verify and repair", begin(true), { "data-key": "repair" })) : null,
    table("Verifications", [
      ["Rule", (one) => to(one.rule, "rules", one.rule)], ["State", (one) => pill(one.state)],
      ["Checked", (one) => number(one.checked ?? 0), "figure"], ["Whole", (one) => number(one.whole ?? 0), "figure"],
      ["Holes", (one) => (one.holes ? pill(number(one.holes), "bad") : "0"), "figure"], ["Repaired", (one) => number(one.repaired ?? 0), "figure"],
      ["Begun", (one) => when(one.started_at || one.created_at)], ["Took", (one) => span(one.seconds), "figure"],
      ["", (one) => to("Open", "executions", one.id)],
    ], found.items, "Nothing has been verified yet."),
  ];
}
