// Events on their way: written down before anything is sent, dropped only when the server has
// them on disk. A reload, a lost connection or a second tab loses none and counts none twice.
//
//   put(event)  ->  localStorage, at once  ->  flush: POST /v1/events  ->  acknowledged: dropped
//
// - The event's id goes with it, and an id counts once: sending again is always safe.
// - A view that is still going on is noted as well; if its tab dies, the next one posts it.

import { ask, Failed } from "/page/api.js";
import { freshId } from "/page/dom.js";

const WAITING = "skipwise.event.";
const OPEN = "skipwise.open.";
const REFUSED = "skipwise.refused";
const AT_ONCE = 200;

export class Outbox {
  /** @param tell called with {waiting, offline, refused} whenever that changes. */
  constructor(tell) {
    this.tell = tell;
    this.tab = freshId();
    this.flushing = null;
    this.offline = false;
    this.retryMs = 1000;
    this.timer = 0;
    this.back();
    addEventListener("online", () => this.flush().catch(() => {}));
    addEventListener("storage", (change) => {
      if (change.key?.startsWith(WAITING)) this.say();
    });
  }

  /** Write down a view that has ended, or a late outcome. */
  put(kind, row) {
    localStorage.setItem(WAITING + row.event_id, JSON.stringify({ kind, row, at: Date.now() }));
    if (kind === "events") localStorage.removeItem(OPEN + this.tab);
    this.say();
  }

  /** Note a view that is still going on. */
  note(row) {
    localStorage.setItem(OPEN + this.tab, JSON.stringify(row));
  }

  forgetOpen() {
    localStorage.removeItem(OPEN + this.tab);
  }

  waiting() {
    return Object.keys(localStorage)
      .filter((name) => name.startsWith(WAITING))
      .map((name) => ({ name, ...JSON.parse(localStorage.getItem(name) || "{}") }))
      .filter((entry) => entry.row)
      .sort((one, other) => one.at - other.at);
  }

  /** Post the open views of tabs that are gone. */
  async adopt() {
    for (const name of Object.keys(localStorage).filter((each) => each.startsWith(OPEN))) {
      const tab = name.slice(OPEN.length);
      if (tab === this.tab) continue;
      await navigator.locks?.request(`skipwise.tab.${tab}`, { ifAvailable: true }, (gone) => {
        const row = gone && JSON.parse(localStorage.getItem(name) || "null");
        if (row) this.put("events", row);
        if (gone) localStorage.removeItem(name);
      });
    }
  }

  /** Send everything that waits; resolves when the server has it on disk. */
  flush() {
    this.flushing ??= this.#locked().finally(() => {
      this.flushing = null;
    });
    return this.flushing;
  }

  /** Hold this tab's lock as long as it lives; whoever can take it knows that the tab is gone. */
  back() {
    navigator.locks?.request(`skipwise.tab.${this.tab}`, () => new Promise((done) => {
      this.letGo = done;
    }));
  }

  /**
   * Send what waits while the page goes away; it stays written down until it is acknowledged. The
   * lock is let go: no view is open, and a browser keeps no page in its cache that holds one.
   */
  away() {
    this.letGo?.();
    const batch = this.waiting().slice(-50);
    if (batch.length) ask("POST", "/v1/events", bodyOf(batch), { keepalive: true }).catch(() => {});
  }

  say() {
    this.tell({
      waiting: this.waiting().length,
      offline: this.offline,
      refused: JSON.parse(localStorage.getItem(REFUSED) || "[]"),
    });
  }

  #locked() {
    if (!navigator.locks) return this.#sendAll();
    return navigator.locks.request("skipwise.outbox", () => this.#sendAll());
  }

  async #sendAll() {
    clearTimeout(this.timer);
    try {
      for (let batch = this.waiting(); batch.length; batch = this.waiting()) {
        await this.#send(batch.slice(0, AT_ONCE));
      }
      this.offline = false;
      this.retryMs = 1000;
    } catch (problem) {
      this.offline = problem.passing;
      this.timer = setTimeout(
        () => this.flush().catch(() => {}),
        Math.max(this.retryMs, problem.retryAfterS * 1000),
      );
      this.retryMs = Math.min(2 * this.retryMs, 15_000);
      throw problem;
    } finally {
      this.say();
    }
  }

  async #send(batch) {
    try {
      await ask("POST", "/v1/events", bodyOf(batch));
    } catch (problem) {
      if (!(problem instanceof Failed) || ![413, 422].includes(problem.status)) throw problem;
      if (batch.length > 1) {  // one of them is at fault: find it
        for (const each of batch) await this.#send([each]);
        return;
      }
      this.#refuse(batch[0], problem);
    }
    for (const { name } of batch) localStorage.removeItem(name);
  }

  #refuse(entry, problem) {
    const refused = JSON.parse(localStorage.getItem(REFUSED) || "[]");
    refused.push({ row: entry.row, why: problem.message });
    localStorage.setItem(REFUSED, JSON.stringify(refused.slice(-20)));
  }
}

function bodyOf(batch) {
  const of = (kind) => batch.filter((entry) => entry.kind === kind).map((entry) => entry.row);
  return { events: of("events"), outcomes: of("outcomes") };
}
