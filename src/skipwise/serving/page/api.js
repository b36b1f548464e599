// How the page asks the server: JSON, the key of this tab, and errors a person can read.

import { keptInTab } from "/page/kept.js";

const KEY = "skipwise.key";

/** A request that came to nothing. `status` is 0 where there was no answer. */
export class Failed extends Error {
  constructor(status, words, retryAfterS = 0, field = null) {
    super(words);
    this.status = status;
    this.retryAfterS = retryAfterS;
    this.field = field;
  }

  /** Whether another key may help. */
  get locked() {
    return this.status === 401 || this.status === 403;
  }

  /** Whether asking again later may help. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export const key = {
  get: () => keptInTab.read(KEY),
  set: (value) => (value === null ? keptInTab.drop(KEY) : keptInTab.write(KEY, value)),
};

/**
 * Ask, and return the answer; throws `Failed`. Some things take longer than `timeoutMs`, as loading a
 * model does; what is sent while the page goes (`keepalive`) has no limit.
 */
export async function ask(method, path, body, { timeoutMs = 10_000, keepalive = false } = {}) {
  const headers = {};
  if (body !== undefined) headers["content-type"] = "application/json";
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      keepalive,
      signal: keepalive ? undefined : AbortSignal.timeout(timeoutMs),
    });
  } catch {
    throw new Failed(0, "the server does not answer");
  }
  const said = await answer.json().catch(() => null);
  if (answer.ok && said === null) throw new Failed(0, "the answer broke off");
  if (!answer.ok) {
    const wait = Number(answer.headers.get("retry-after")) || 0;
    throw new Failed(answer.status, said?.error || `status ${answer.status}`, wait, said?.field);
  }
  return said;
}
