// How the page asks the server: JSON, the key of this tab, and errors a person can read.

const KEY = "skipwise.key";

/** A request that came to nothing. `status` is 0 where there was no answer. */
export class Failed extends Error {
  constructor(status, words, retryAfterS = 0, field = null) {
    super(words);
    this.status = status;
    this.retryAfterS = retryAfterS;
    this.field = field;
  }

  /** Whether asking again later may help. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
};

/** Ask, and return the answer; throws `Failed`. */
export async function ask(method, path, body, more = {}) {
  const headers = {};
  if (body !== undefined) headers["content-type"] = "application/json";
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: more.keepalive ? undefined : AbortSignal.timeout(10_000),
      ...more,
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
