// Events on their way: written down before anything is sent, dropped only when the server has
// them on disk. A reload, a lost connection or a second tab loses none and counts none twice.
//
//   put(event)  ->  written down, at once  ->  flush: POST /v1/events  ->  acknowledged: dropped
//
// - The event's id goes with it, and an id counts once: sending again is always safe, also from two
//   tabs at the same time.
// - A view that is still going on is noted as well; if its tab dies, the next one posts it. A living
//   tab holds a lock; on plain http, where browsers have no locks, it answers when it is called.
// - What the browser has no room for is in this tab only: that is told, and asked about before the
//   tab goes while the server does not answer.

import { ask, Failed } from "/page/api.js";
import { freshId } from "/page/dom.js";
import { kept } from "/page/kept.js";

const WAITING = "skipwise.event.";
const OPEN = "skipwise.open.";
const REFUSED = "skipwise.refused";
const CALLS = "skipwise.tabs";
const AT_ONCE = 200;
const ANSWERS_WITHIN_MS = 500;
const SETTLES_MS = 300;
const TOLD_MS = 60_000;

export class Outbox {
  /**
   * @param tell called with {waiting, failing, refused, inTab, full} whenever that changes; failing is
   *   the problem with which the last sending ended, or null; inTab is how many of those that wait are
   *   in this tab only, full whether the browser has no room to keep more.
   * @param settled called with the ids of events that the server has on disk; or with those it
   *   refused, and why.
   */
  constructor(tell, settled = () => {}) {
    this.tell = tell;
    this.settled = settled;
    this.tab = freshId();
    this.flushing = null;
    this.failing = null;
    this.retryMs = 1000;
    this.timer = this.forgetting = 0;
    this.back();
    addEventListener("online", () => this.flush().catch(() => {}));
    addEventListener("storage", (change) => {
      if (!change.key?.startsWith(WAITING)) return;
      if (change.newValue === null) this.#settledElsewhere(change.key.slice(WAITING.length));
      this.say();
    });
  }

  /** Write down a view that has ended, or a late outcome. */
  put(kind, row) {
    kept.write(WAITING + row.event_id, JSON.stringify({ kind, row, at: Date.now() }));
    if (kind === "events") kept.drop(OPEN + this.tab);  // which may make room for it
    this.say();
  }

  /** Note a view that is still going on. */
  note(row) {
    const before = kept.unwritten.length > 0;
    kept.write(OPEN + this.tab, JSON.stringify(row));
    if (kept.unwritten.length > 0 !== before) this.say();
  }

  forgetOpen() {
    kept.drop(OPEN + this.tab);
  }

  waiting() {
    const unwritten = new Set(kept.unwritten);
    return kept.names(WAITING)
      .map((name) => ({ name, inTab: unwritten.has(name), ...JSON.parse(kept.read(name) || "{}") }))
      .filter((entry) => entry.row)
      .sort((one, other) => one.at - other.at);
  }

  /**
   * Post the open views of tabs that are gone. What a tab wrote as it went can arrive after its lock
   * was let go, and has the whole view where the note has its beginning: it is given time to.
   */
  async adopt() {
    for (const name of kept.names(OPEN)) {
      const tab = name.slice(OPEN.length);
      if (tab === this.tab) continue;
      await this.#ifGone(tab, async () => {
        await new Promise((done) => setTimeout(done, SETTLES_MS));
        const row = JSON.parse(kept.read(name) || "null");
        if (row && kept.read(WAITING + row.event_id) === null) this.put("events", row);
        kept.drop(name);
      });
    }
  }

  /**
   * Do something if a tab is gone. Without locks a tab that is frozen does not answer in time and is
   * taken for gone: its view counts once all the same, at worst without its last part.
   */
  async #ifGone(tab, then) {
    if (navigator.locks) {
      await navigator.locks.request(`skipwise.tab.${tab}`, { ifAvailable: true }, (gone) => gone && then());
    } else if (!await answers(tab)) await then();
  }

  /** Send everything that waits; resolves when the server has it on disk. */
  flush() {
    if (!this.flushing) {
      const mine = this.#sendAll().finally(() => {
        if (this.flushing === mine) this.flushing = null;
      });
      this.flushing = mine;
    }
    return this.flushing;
  }

  /** Show that this tab lives: hold its lock, or answer when it is called. */
  back() {
    if (navigator.locks) {
      navigator.locks.request(`skipwise.tab.${this.tab}`, () => new Promise((done) => {
        this.letGo = done;
      }));
      return;
    }
    const calls = new BroadcastChannel(CALLS);
    calls.onmessage = ({ data }) => {
      if (data.call === this.tab) calls.postMessage({ here: this.tab });
    };
    this.letGo = () => calls.close();
  }

  /**
   * Send what waits while the page goes away; it stays written down until it is acknowledged. The
   * lock is let go: no view is open, and a browser keeps no page in its cache that holds one.
   */
  away() {
    this.letGo?.();
    const batch = this.waiting().sort((one, other) => one.inTab - other.inTab).slice(-50);
    if (batch.length) ask("POST", "/v1/events", bodyOf(batch), { keepalive: true }).catch(() => {});
  }

  say() {
    const waiting = this.waiting();
    const inTab = waiting.filter((entry) => entry.inTab).length;
    if (inTab && this.failing) addEventListener("beforeunload", asksFirst);
    else removeEventListener("beforeunload", asksFirst);
    this.tell({
      waiting: waiting.length,
      failing: this.failing,
      refused: this.#lately(),
      inTab,
      full: kept.unwritten.length > 0,
    });
  }

  /** What was refused in the last minute; it stays written down, the newest twenty. */
  #lately() {
    const refused = JSON.parse(kept.read(REFUSED) || "[]");
    const lately = refused.filter((each) => Date.now() - each.at < TOLD_MS);
    clearTimeout(this.forgetting);
    if (lately.length) this.forgetting = setTimeout(() => this.say(), TOLD_MS);
    return lately;
  }

  async #sendAll() {
    await null;  // else it could be over before it is known to have begun
    clearTimeout(this.timer);
    try {
      for (let batch = this.waiting(); batch.length; batch = this.waiting()) {
        await this.#send(batch.slice(0, AT_ONCE));
      }
      this.failing = null;
      this.retryMs = 1000;
    } catch (problem) {
      this.failing = problem;
      this.timer = setTimeout(
        () => this.flush().catch(() => {}),
        Math.max(this.retryMs, problem.retryAfterS * 1000),
      );
      this.retryMs = Math.min(2 * this.retryMs, 15_000);
      throw problem;
    } finally {
      this.flushing = null;  // at once: what is put down from here on is sent by another
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
      kept.drop(batch[0].name);
      this.settled([batch[0].row.event_id], problem.message);
      return;
    }
    for (const { name } of batch) kept.drop(name);
    this.settled(batch.map(({ row }) => row.event_id), null);
  }

  /** Another tab has sent an event of this one. */
  #settledElsewhere(eventId) {
    const refused = JSON.parse(kept.read(REFUSED) || "[]");
    this.settled([eventId], refused.find(({ row }) => row.event_id === eventId)?.why ?? null);
  }

  #refuse(entry, problem) {
    const refused = JSON.parse(kept.read(REFUSED) || "[]");
    refused.push({ row: entry.row, why: problem.message, at: Date.now() });
    kept.write(REFUSED, JSON.stringify(refused.slice(-20)));
  }
}

/** Call a tab; resolves to whether it answers in time. */
function answers(tab) {
  const calls = new BroadcastChannel(CALLS);
  return new Promise((done) => {
    calls.onmessage = ({ data }) => data.here === tab && done(true);
    calls.postMessage({ call: tab });
    setTimeout(() => done(false), ANSWERS_WITHIN_MS);
  }).finally(() => calls.close());
}

/** Let the browser ask whether to leave: what is in this tab only goes with it. */
function asksFirst(event) {
  event.preventDefault();
}

function bodyOf(batch) {
  const of = (kind) => batch.filter((entry) => entry.kind === kind).map((entry) => entry.row);
  return { events: of("events"), outcomes: of("outcomes") };
}
