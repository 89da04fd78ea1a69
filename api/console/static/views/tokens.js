// Tokens: who may ask this API. A token's text is shown once.

import { all, at, send } from "../api.js";
import { button, h, pill, table, when } from "../dom.js";

export async function tokens(_parts, page) {
  const [found, projects] = await Promise.all([all("tokens", { signal: page.signal }), all("projects", { signal: page.signal })]);
  const state = page.state;
  const name = h("input", { id: "token-name", "data-key": "name", value: state.name || "", required: true, oninput: (event) => { state.name = event.target.value; } });
  const role = h("select", { id: "token-role", onchange: (event) => { state.role = event.target.value; } },
    ["viewer", "operator", "admin"].map((one) => h("option", { selected: one === state.role }, one)));
  const project = h("select", { id: "token-project", onchange: (event) => { state.project = event.target.value; } },
    h("option", { value: "" }, "the whole platform"), projects.map((one) => h("option", { value: one.name, selected: one.name === state.project }, one.name)));
  return [
    h("h1", null, "Tokens"),
    h("form", { class: "filters", onsubmit: page.does(async () => {
      const made = await send("POST", "tokens", { name: name.value, role: role.value, ...(project.value ? { project: project.value } : {}) });
      state.made = made.token;
      state.name = "";
    }) },
    h("label", { for: "token-name" }, "Name"), name, h("label", { for: "token-role" }, "Role"), role,
    h("label", { for: "token-project" }, "For"), project, h("button", { class: "primary" }, "Make")),
    state.made ? h("p", { class: "notes" }, "Its text, shown this once: ", h("code", { id: "made-token" }, state.made), " ",
      button("I have it", page.does(() => { state.made = null; }), { "data-key": "got" })) : null,
    table("Tokens", [
      ["Name", (one) => one.name], ["Role", (one) => one.role], ["For", (one) => one.project || one.region || "the whole platform"],
      ["Begins with", (one) => h("code", null, "tsp_" + one.id)], ["Made", (one) => when(one.created_at)], ["Expires", (one) => when(one.expires_at)],
      ["", (one) => one.revoked_at ? pill("revoked", "warn") : button("Revoke", page.does(async () => {
        if (confirm("Revoke the token " + one.name + "? Whoever uses it is refused at once.")) await send("DELETE", "tokens/" + at(one.name));
      }), { "data-key": "revoke-" + one.name, "aria-label": "Revoke " + one.name })],
    ], found),
  ];
}
