// The feed: what happens between a card coming into sight and the next one.
//
//   card shown -> View runs -> move on -> event written down -> posted, on disk -> next slate -> card
//
// After an event the next card is chosen from a slate that has learnt from it, unless the answer
// takes longer than a person would wait; then the card that was ready comes, and the one after it
// has learnt. Where answers have taken longer than that of late, nobody waits in vain.

import { ask, key } from "/page/api.js";
import { Card } from "/page/card.js";
import { Deck } from "/page/deck.js";
import { freshId, node, short } from "/page/dom.js";
import { Guide } from "/page/guide.js";
import { listenToKeys } from "/page/keys.js";
import { Learnt } from "/page/learnt.js";
import { Outbox } from "/page/outbox.js";
import { askForKey, Picker } from "/page/picker.js";
import { Queue } from "/page/queue.js";
import { place, tellStatus } from "/page/status.js";
import { View } from "/page/view.js";
import { Why } from "/page/why.js";

const PATIENCE_MS = 60;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const byId = (id) => document.getElementById(id);
const FLAGS = { like: "liked", follow: "followed", share: "shared", not: "disliked" };

class Feed {
  constructor(facts) {
    this.facts = facts.feed;
    this.scopes = new Set(facts.scopes);
    this.serverAheadMs = facts.feed.now_ms - Date.now();
    this.glanceMs = facts.feed.glance_below_s * 1000;
    this.outbox = new Outbox((state) => this.#status(state));
    this.deck = new Deck(byId("deck"), (step, how) => this.move(step, how));
    this.learnt = new Learnt(byId("learnt"), facts.feed);
    this.why = new Why(byId("why"), this);
    this.picker = new Picker(byId("who"), this.scopes, (viewerId) => this.begin(viewerId));
    this.guide = new Guide(byId("learnt"), () => this.queue);
    this.turn = Promise.resolve();
    this.sent = { waiting: 0, refused: [] };
    this.trouble = null;
    this.usualMs = 0;  // from an event to the slate that has learnt from it, a running mean
    this.paused = this.moving = false;
    this.view = null;
    this.#listen();
  }

  /** Start over as a viewer. */
  async begin(viewerId) {
    this.#leave();
    this.viewerId = viewerId;
    this.past = [];
    this.at = -1;
    this.next = null;  // it was the viewer's before
    this.picker.show(viewerId);
    this.learnt.begin();
    this.guide.begin(viewerId);
    this.queue = new Queue(viewerId, this.facts.surface, (queue) => this.#renewed(queue));
    const queue = this.queue;
    this.deck.say(place("loading", "Making the first slate…"));
    await this.outbox.adopt();
    if (this.outbox.waiting().length) await this.outbox.flush().catch(() => {});
    try {
      await queue.ask();
    } catch (problem) {
      if (queue === this.queue) this.#failed(problem, true);
      return;
    }
    if (queue === this.queue) await this.move(1, { seen: true });
  }

  /** Move on or back; `seen` where the card to come was in sight already and must be that one. */
  move(step, how) {
    this.turn = this.turn.then(() => this.#move(step, how)).catch((problem) => this.#failed(problem)).finally(() => {
      this.moving = false;
    });
    return this.turn;
  }

  /** Ask for what comes next again, as when the score has changed. */
  async renew() {
    await this.queue.ask();
    return this.queue.coming;
  }

  /** What is on: {entry, view, explained}. */
  get current() {
    return this.past[this.at] || null;
  }

  async #move(step, { seen = false }) {
    if (step < 0 && this.at <= 0) return;
    const queue = this.queue;
    const learnt = this.#leave();
    this.moving = true;
    if (step < 0) {
      this.at -= 1;
    } else if (this.at + 1 < this.past.length) {
      this.at += 1;
    } else {
      const ready = this.next;
      const waits = learnt && !seen && this.usualMs < PATIENCE_MS;
      if (waits) await Promise.race([learnt, rest(PATIENCE_MS)]);
      if (!queue.coming.length && learnt) await learnt;
      if (!queue.coming.length) await queue.ask().catch((problem) => this.#failed(problem, queue === this.queue));
      if (queue !== this.queue) return;
      const entry = seen && ready ? this.#takeReady(ready) : queue.take();
      if (!entry) {
        if (queue.empty) this.#allSeen();
        return;
      }
      const card = this.next?.entry.video_id === entry.video_id ? this.next : this.#card(entry);
      this.past.push({ entry, card, flags: {}, eventId: null });
      this.at = this.past.length - 1;
    }
    this.#show();
  }

  /** Take the card that was in sight, whatever has been learnt since. */
  #takeReady(ready) {
    const { entry } = ready;
    this.queue.coming = this.queue.coming.filter((each) => each.video_id !== entry.video_id);
    this.queue.shown.add(entry.video_id);
    return entry;
  }

  #card(entry) {
    return new Card(entry, this.facts.topics, (name) => this.act(name), this.glanceMs);
  }

  #show() {
    const { entry, card, flags, eventId } = this.current;
    const about = { viewerId: this.viewerId, surface: this.facts.surface, again: eventId !== null };
    this.view = new View(entry, about, this.serverAheadMs);
    this.paused = false;
    byId("deck").classList.remove("is-paused");
    this.#lay();
    card.press(flags);
    card.show(this.view);
    if (!document.hidden) this.view.run();  // what is not drawn yet is not watched yet
    byId("said").textContent = card.spoken();
    if (document.activeElement === document.body) byId("deck").focus({ preventScroll: true });
    this.why.card(this.current);
    performance.mark("card");
  }

  /** Put before, now and next on the track. */
  #lay() {
    const ahead = this.past[this.at + 1];
    if (ahead) this.next = ahead.card;
    else {
      const entry = this.queue.coming[0];
      if (!entry) this.next = null;
      else if (this.next?.entry !== entry) this.next = this.#card(entry);
    }
    this.deck.set(this.past[this.at - 1]?.card || null, this.current.card, this.next);
  }

  /** End the view that is on; returns a promise of the slate that has learnt from it, or null. */
  #leave() {
    const left = this.#end();
    return left && this.#send(left);
  }

  /** End the view that is on and write it down; returns what was left, null where it was no view. */
  #end() {
    const { view } = this;
    this.view = null;
    if (!view) return null;
    const row = view.end();
    if (!row) {
      this.outbox.forgetOpen();
      return null;
    }
    const left = this.current;
    left.eventId = row.event_id;
    left.watched = row;
    this.outbox.put("events", row);
    this.learnt.left(left.entry, row, this.glanceMs);
    return left;
  }

  /** Post what was left; returns a promise of the slate that has learnt from it. */
  #send(left) {
    const { queue } = this;
    const row = left.watched;
    const sentAt = performance.now();
    return this.outbox.flush()
      .then(() => {
        if (queue !== this.queue) return null;
        this.learnt.kept(row.event_id, performance.now() - sentAt);
        this.guide.kept(left.entry, row, this.glanceMs);
        return queue.ask().then(() => {
          this.usualMs += 0.3 * (performance.now() - sentAt - this.usualMs);
        });
      })
      .catch((problem) => this.#failed(problem));
  }

  #renewed(queue) {
    if (queue !== this.queue) return;
    this.trouble = null;
    this.#status();
    const tell = () => {
      if (queue !== this.queue) return;
      this.learnt.slate(queue);
      this.guide.slate(queue);
      this.why.coming(queue.coming);
    };
    if (this.view) tell();
    else requestAnimationFrame(() => setTimeout(tell));  // a card is waited for: it is drawn first
    const busy = this.deck.track.classList.contains("dragging");
    if (this.current && this.view && !busy) this.#lay();
  }

  /** Do what a button or key says with the card that is on. */
  act(name) {
    const { current, view } = this;
    if (!current) return;
    if (!view) {  // between two cards: it is meant for the one that comes
      this.turn.then(() => this.view && this.act(name));
      return;
    }
    if (name === "why") {
      this.why.toggle();
      return;
    }
    const flag = FLAGS[name];
    const value = !current.flags[flag];
    current.flags[flag] = value;
    current.card.press(current.flags);
    if (current.eventId === null) view.flags[flag] = value;
    else this.#late(current, flag, value);
    this.why.acted(current);
    if (name === "not" && value) this.move(1, {});
  }

  /** What is said of a card whose view was posted already is an outcome of its own. */
  #late({ entry, eventId }, flag, value) {
    this.outbox.put("outcomes", {
      event_id: freshId(),
      of_event_id: eventId,
      viewer_id: this.viewerId,
      video_id: entry.video_id,
      known_at_ms: Math.round(Date.now() + this.serverAheadMs),
      [flag]: value,
    });
    this.outbox.flush().then(() => this.queue.ask()).catch((problem) => this.#failed(problem));
  }

  pause() {
    if (!this.view) return;
    this.paused = !this.paused;
    byId("deck").classList.toggle("is-paused", this.paused);
    if (this.paused) this.view.pause();
    else this.view.run();
  }

  #listen() {
    document.addEventListener("visibilitychange", () => {
      if (!this.view) return;
      if (document.hidden) {
        this.view.pause();
        if (!this.view.bounced) this.outbox.note(this.view.row());
      } else if (!this.paused) this.view.run();
    });
    let left = null;
    addEventListener("pagehide", () => {
      left = this.#end();
      this.outbox.away();
    });
    addEventListener("pageshow", (event) => {  // back out of the browser's cache: the same card again
      if (!event.persisted) return;
      this.outbox.back();
      if (left) this.#send(left);  // it may not have arrived; whether or not this card is left at once
      else this.outbox.flush().catch(() => {});
      if (this.current) this.#show();
    });
    addEventListener("resize", () => this.current && this.#lay());
    byId("deck").addEventListener("tapped", () => this.pause());
    listenToKeys(this);
    let noted = 0;
    const frame = (now) => {
      requestAnimationFrame(frame);
      if (!this.view || !this.current) return;
      if (this.view.running && !(calm.matches && now - this.painted < 1000)) {
        this.painted = now;
        this.current.card.show(this.view);
        this.why.watching(this.view.watchMs);
      }
      if (now - noted > 1000 && !this.view.bounced) {
        noted = now;
        this.outbox.note(this.view.row());
      }
    };
    this.painted = 0;
    requestAnimationFrame(frame);
  }

  #status(sent = this.sent) {
    this.sent = sent;
    tellStatus(byId("status"), sent, this.trouble);
  }

  #allSeen() {
    this.deck.say(place("empty", "You have seen everything there is.",
      `All ${this.facts.num_videos.toLocaleString()} videos, or all that may be shown to ${short(this.viewerId, 40)}.`,
      node("button", { type: "button", class: "main", onclick: () => this.picker.fresh() }, "Start as a new viewer")));
  }

  /** Say what went wrong: in place of the card where there is none, `bare`, else in the status line. */
  #failed(problem, bare = !this.view && !this.moving) {
    const offline = problem.status === 0;
    if (!(problem.status >= 0)) console.error(problem);
    if (problem.locked) this.#unlock();
    this.trouble = offline ? "no connection" : problem.message;
    this.#status();
    if (!bare) return;  // a card is on, or comes
    this.deck.say(place(offline ? "offline" : "error",
      offline ? "No connection to the server." : problem.status ? "The server cannot make a slate." : "This page has a fault.",
      offline ? "What you did is kept here and is sent when it is back." : problem.message,
      node("button", { type: "button", class: "main", onclick: () => this.#again() }, "Try again")));
    if (offline) {
      clearTimeout(this.again);
      this.again = setTimeout(() => this.#again(), 3000);
    }
  }

  async #again() {
    clearTimeout(this.again);
    if (this.view) return;
    const queue = this.queue;
    try {
      await this.outbox.flush();
      await queue.ask();
    } catch (problem) {
      this.#failed(problem);
      return;
    }
    if (queue === this.queue && !this.view) this.move(1, {});
  }

  /** Ask for a key that opens feed and events, and go on with it; nobody watches meanwhile. */
  async #unlock() {
    if (this.unlocking) return;
    this.unlocking = true;
    await this.turn;  // a card may be on its way
    const stops = this.view && !this.paused;
    if (stops) this.pause();
    try {
      do {
        await askForKey("feed,events");
        const { scopes } = await ask("GET", "/v1/page");
        this.scopes.clear();
        scopes.forEach((scope) => this.scopes.add(scope));
      } while (!this.scopes.has("feed") || !this.scopes.has("events"));
      this.why.weights.read();
      await this.outbox.flush();
      await this.queue.ask();
    } catch (problem) {
      this.#failed(problem);
    } finally {
      this.unlocking = false;
    }
    if (stops && this.paused) this.pause();
    if (!this.view && !this.moving && this.queue.coming.length) this.move(1, {});
  }
}

const rest = (ms) => new Promise((done) => setTimeout(done, ms));

async function start() {
  let facts;
  try {
    facts = await ask("GET", "/v1/page");
    while (!facts.feed) {
      await askForKey("feed,events", key.get() !== null);
      facts = await ask("GET", "/v1/page");
    }
  } catch (problem) {
    tellStatus(byId("status"), { waiting: 0, refused: [] }, problem.status ? problem.message : "no connection");
    byId("deck").replaceChildren(place(problem.status ? "error" : "offline",
      problem.status ? "The server cannot answer." : "No connection to the server.", problem.message,
      node("button", { type: "button", class: "main", onclick: () => location.reload() }, "Try again")));
    return;
  }
  const feed = new Feed(facts);
  await feed.begin(feed.picker.chosen());
}

start();
