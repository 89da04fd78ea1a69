// Asks the API with the token of this tab. Nothing else is asked, and no other host.

const KEY = "transship-token";
const BASE = "/api/v1/";

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

export class Refused extends Error {
  constructor(status, problem) {
    super([problem.detail || problem.title || "the API answered " + status, problem.hint].filter(Boolean).join(": "));
    this.status = status;
    this.fields = problem.errors || [];
  }
}

export async function ask(path, { method = "GET", body, headers = {}, signal } = {}) {
  const sent = { ...headers, Authorization: "Bearer " + token.get() };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  const response = await fetch(BASE + path, {
    method, headers: sent, signal, body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store", credentials: "omit",
  });
  if (!response.ok) throw new Refused(response.status, await response.json().catch(() => ({})));
  return response;
}

export async function read(path, options) {
  const response = await ask(path, options);
  return response.status === 204 ? null : response.json();
}

export const send = (method, path, body, headers) => read(path, { method, body, headers });

// The path of a name: each part is encoded.
export const at = (...parts) => parts.map(encodeURIComponent).join("/");

// All pages of a list, at most `most` items.
export async function all(path, { most = 2000, signal } = {}) {
  const items = [];
  let cursor = null;
  do {
    const more = (path.includes("?") ? "&" : "?") + "limit=200" + (cursor ? "&cursor=" + encodeURIComponent(cursor) : "");
    const page = await read(path + more, { signal });
    items.push(...page.items);
    cursor = page.next;
  } while (cursor && items.length < most);
  return items;
}

// Server-sent events of an execution: calls `on(name, data)` until it returns true or the signal aborts.
export async function follow(path, on, signal) {
  const response = await ask(path, { signal });
  const reader = response.body.getReader();
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
      if (name && data && on(name[1], JSON.parse(data[1]))) return true;
    }
  }
}
