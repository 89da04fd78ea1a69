// The console: a page for each address behind #, shown anew every few seconds while it is looked at.

import { Refused, token } from "./api.js";
import { h, link } from "./dom.js";
import { audit } from "./views/audit.js";
import { deletions } from "./views/deletions.js";
import { execution } from "./views/execution.js";
import { executions } from "./views/executions.js";
import { images } from "./views/images.js";
import { migrations } from "./views/migrations.js";
import { overview } from "./views/overview.js";
import { pipelines } from "./views/pipelines.js";
import { promotions } from "./views/promotions.js";
import { regions } from "./views/regions.js";
import { registries, registry } from "./views/registries.js";
import { releases } from "./views/releases.js";
import { replicas } from "./views/replicas.js";
import { rule } from "./views/rule.js";
import { rules } from "./views/rules.js";
import { tokens } from "./views/tokens.js";
import { verifications } from "./views/verifications.js";
import { webhooks } from "./views/webhooks.js";

const EVERY_MS = 5000;

// A page: its words in the navigation (none: it is reached from another), and what makes it. `make(parts, page)`
// returns nodes, or throws; page.signal aborts when it is left, page.again() shows it anew, page.say() tells.
const PAGES = {
  "": { title: "Overview", make: overview },
  rules: { title: "Rules", make: (parts, page) => (parts.length ? rule : rules)(parts, page) },
  executions: { title: "Executions", make: (parts, page) => (parts.length ? execution : executions)(parts, page) },
  images: { title: "Images", make: images },
  registries: { title: "Registries", make: (parts, page) => (parts.length ? registry : registries)(parts, page) },
  regions: { title: "Regions", make: regions },
  migrations: { title: "Migrations", make: migrations },
  pipelines: { title: "Pipelines", make: pipelines },
  promotions: { title: "Promotions", make: promotions },
  replicas: { title: "Replicas", make: replicas },
  releases: { title: "Releases", make: releases },
  verifications: { title: "Verifications", make: verifications },
  deletions: { title: "Deletions", make: deletions },
  webhooks: { title: "Webhooks", make: webhooks },
  audit: { title: "Audit", make: audit },
  tokens: { title: "Tokens", make: tokens },
};

const byId = (id) => document.getElementById(id);
let current = null;

export function tell(error) {
  byId("message").textContent = error || "";
  byId("message").hidden = !error;
}

class Page {
  constructor(name, parts) {
    this.name = name;
    this.parts = parts;
    this.leaving = new AbortController();
    this.live = true; // shown anew by itself; a page with a form in hand sets it to false
    this.state = {}; // what a view keeps between two showings
  }

  get signal() {
    return this.leaving.signal;
  }

  say(text) {
    byId("said").textContent = text;
  }

  // What a button does: errors are told, and the page is shown anew.
  does(action) {
    return async (event) => {
      event?.preventDefault();
      const pressed = event?.currentTarget;
      if (pressed instanceof HTMLButtonElement) pressed.disabled = true;
      try {
        tell("");
        await action(event);
        await this.again();
      } catch (error) {
        this.failed(error);
      } finally {
        if (pressed instanceof HTMLButtonElement) pressed.disabled = false;
      }
    };
  }

  failed(error) {
    if (error.name === "AbortError" || this !== current) return;
    if (error instanceof Refused && error.status === 401) {
      signOut();
      tell("This token is not valid here.");
      return;
    }
    tell(error.message);
  }

  async again() {
    const made = await PAGES[this.name].make(this.parts, this);
    if (this !== current) return;
    const focus = keepFocus();
    byId("view").replaceChildren(...[made].flat(Infinity).filter(Boolean));
    focus();
  }
}

// Showing anew puts other nodes in place: the focus goes to the one that bears the same key.
function keepFocus() {
  const key = document.activeElement?.closest("[data-key]")?.getAttribute("data-key");
  return () => {
    if (key) byId("view").querySelector('[data-key="' + CSS.escape(key) + '"]')?.focus({ preventScroll: true });
  };
}

async function show() {
  const [name, ...parts] = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  current?.leaving.abort();
  tell("");
  if (!token.get()) return signOut();
  const known = Object.hasOwn(PAGES, name || "") ? name || "" : null;
  const page = (current = new Page(known || "", parts));
  byId("sign-in").hidden = true;
  byId("leave").hidden = false;
  navigation(page.name);
  document.title = [parts[0], PAGES[page.name].title, "Transship"].filter(Boolean).join(" - ");
  if (known === null) return byId("view").replaceChildren(h("h1", null, "There is no such page"));
  byId("view").replaceChildren(h("p", { class: "empty" }, "One moment ..."));
  try {
    await page.again();
    byId("main").focus({ preventScroll: true });
  } catch (error) {
    page.failed(error);
  }
}

function navigation(name) {
  byId("nav").hidden = false;
  byId("nav").replaceChildren(...Object.entries(PAGES).map(([path, page]) =>
    h("a", { href: link(...[path].filter(Boolean)), "aria-current": path === name ? "page" : null }, page.title)));
}

function signOut() {
  current?.leaving.abort();
  current = null;
  token.forget();
  byId("view").replaceChildren();
  byId("nav").hidden = true;
  byId("leave").hidden = true;
  byId("sign-in").hidden = false;
  byId("token").focus();
}

setInterval(async () => {
  const page = current;
  if (!page || !page.live || document.hidden) return;
  try {
    await page.again();
    if (page === current && byId("message").dataset.stale) tell("");
    delete byId("message").dataset.stale;
  } catch (error) {
    page.failed(error);
    byId("message").dataset.stale = "true";
  }
}, EVERY_MS);

byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set(byId("token").value.trim());
  byId("token").value = "";
  show();
});
byId("leave").addEventListener("click", () => {
  signOut();
  tell("");
});
addEventListener("hashchange", show);
show();
