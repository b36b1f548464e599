// The feed: what happens between a card coming into sight and the next one.
//
//   card shown -> View runs -> move on -> event written down -> posted, on disk -> next slate -> card
//
// After an event the next card is chosen from a slate that has learnt from it, unless the answer
// takes longer than a person would wait; then the card that was ready comes, and the one after it
// has learnt. Where answers have taken longer than that of late, nobody waits in vain.

import { Card } from "/page/card.js";
import { Deck } from "/page/deck.js";
import { changedBy, saidOf } from "/page/deeds.js";
import { Guide } from "/page/guide.js";
import { listenToKeys } from "/page/keys.js";
import { Learnt } from "/page/learnt.js";
import { Outbox } from "/page/outbox.js";
import { Picker } from "/page/picker.js";
import { Queue } from "/page/queue.js";
import { NOTHING_SENT, place, seenPlace, tellStatus, troublePlace } from "/page/status.js";
import { FEED, unlocked } from "/page/unlock.js";
import { lateOutcome, View } from "/page/view.js";
import { Why } from "/page/why.js";

const PATIENCE_MS = 60;
const RETRY_MS = 3000;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const byId = (id) => document.getElementById(id);

export class Feed {
  constructor(facts) {
    this.facts = facts.feed;
    this.scopes = new Set(facts.scopes);
    this.serverAheadMs = facts.feed.now_ms - Date.now();
    this.glanceMs = facts.feed.glance_below_s * 1000;
    this.onTheWay = new Map();  // event id -> what was left and is not answered for yet
    this.outbox = new Outbox((state) => this.#status(state), (ids, why) => this.#settled(ids, why));
    this.deck = new Deck(byId("deck"), (step, how) => this.move(step, how));
    this.learnt = new Learnt(byId("learnt"), facts.feed);
    this.why = new Why(byId("why"), this);
    this.picker = new Picker(byId("who"), this.scopes, (viewerId) => this.begin(viewerId));
    this.guide = new Guide(byId("learnt"), () => this.queue, () => byId("deck").focus({ preventScroll: true }));
    this.turn = Promise.resolve();
    this.sent = NOTHING_SENT;
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
    this.onTheWay.clear();
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
    if (queue === this.queue) await this.#goOn();
  }

  /**
   * Move on or back; `seen` where the card to come was in sight already and must be that one. Before
   * the first card there is nothing to move on from.
   */
  move(step, how) {
    return this.#inTurn(() => this.current && this.#move(step, how));
  }

  /** Show the next card where none is on, as after a slate that failed. */
  #goOn() {
    return this.#inTurn(() => this.view || this.#move(1, {}));
  }

  #inTurn(does) {
    this.turn = this.turn.then(does).catch((problem) => this.#failed(problem)).finally(() => {
      this.moving = false;
    });
    return this.turn;
  }

  /** Ask for what comes next again, as when the score has changed. */
  renew() {
    return this.queue.ask().then(() => this.queue.coming);
  }

  /** What is on: {entry, view, explained}. */
  get current() {
    return this.past[this.at] || null;
  }

  async #move(step, { seen = false }) {
    const covered = !this.view;  // words stand in place of the card: it is the one to go back to
    if (step < 0 && this.at <= 0 && !covered) return;
    const queue = this.queue;
    const learnt = this.#leave();
    this.moving = true;
    if (step < 0) {
      if (!covered) this.at -= 1;
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
    this.#watch();  // what is not drawn yet is not watched yet
    this.#say([this.done, card.spoken()].filter(Boolean).join(". "));
    this.done = null;
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
  #send({ entry, watched: row }) {
    const { queue } = this;
    const sent = { entry, row, atMs: performance.now(), late: false };
    this.onTheWay.set(row.event_id, sent);
    return this.outbox.flush()
      .then(() => {
        if (queue !== this.queue) return null;
        this.#settled([row.event_id], null);  // where another tab has sent it
        return queue.ask().then(() => {
          this.usualMs += 0.3 * (performance.now() - sent.atMs - this.usualMs);
        });
      })
      .catch((problem) => {
        sent.late = true;
        this.#failed(problem);
      });
  }

  /** Events are on disk, or refused for what `why` says; a slate is asked for where nobody waits to. */
  #settled(ids, why) {
    const mine = ids.map((id) => this.onTheWay.get(id)).filter(Boolean);
    for (const { entry, row, atMs } of mine) {
      this.onTheWay.delete(row.event_id);
      if (why === null) {
        this.learnt.kept(row.event_id, performance.now() - atMs);
        this.guide.kept(entry, row, this.glanceMs);
      } else this.learnt.refused(row.event_id);
    }
    if (mine.some(({ late }) => late)) this.#again();
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
    const changed = changedBy(name, current.flags);
    Object.assign(current.flags, changed);
    current.card.press(current.flags);
    if (current.eventId === null) Object.assign(view.flags, changed);
    else this.#late(current, changed);
    this.why.acted(current);
    const words = saidOf(name, current.flags);
    this.#say(words);
    if (!changed.disliked) return;
    this.done = words;  // it is said before what comes
    this.move(1, {});
  }

  /** Tell those who do not see it. */
  #say(words) {
    byId("said").textContent = words;
  }

  /** What is said of a card whose view was posted already is an outcome of its own. */
  #late({ entry, eventId }, changed) {
    this.outbox.put("outcomes", lateOutcome(eventId, this.viewerId, entry.video_id, this.serverAheadMs, changed));
    this.outbox.flush().then(() => this.queue.ask()).catch((problem) => this.#failed(problem));
  }

  pause() {
    if (!this.view) return;
    this.paused = !this.paused;
    byId("deck").classList.toggle("is-paused", this.paused);
    this.#watch();
    this.#say(this.paused ? "Paused" : "Playing");
  }

  /** Let the view go on where the card is seen and moves; hold it where a tab or a dialog is over it. */
  #watch() {
    if (!this.view) return;
    if (this.paused || document.hidden || document.querySelector("dialog:modal")) this.view.pause();
    else this.view.run();
  }

  #listen() {
    document.addEventListener("visibilitychange", () => {
      this.#watch();
      if (this.view && document.hidden && !this.view.bounced) this.outbox.note(this.view.row());
    });
    new MutationObserver(() => this.#watch()).observe(document.body, { subtree: true, attributeFilter: ["open"] });  // dialogs
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
    addEventListener("online", () => this.trouble && this.#again());
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
    this.deck.say(seenPlace(this.facts.num_videos, this.viewerId, () => this.picker.fresh()));
  }

  /** Say what went wrong: in place of the card where there is none, `bare`, else in the status line. */
  #failed(problem, bare = !this.view && !this.moving) {
    if (!(problem.status >= 0)) console.error(problem);
    if (problem.locked) this.#unlock();
    this.trouble = problem.status === 0 ? "no connection" : problem.message;
    this.#status();
    if (problem.passing) {
      clearTimeout(this.retry);
      this.retry = setTimeout(() => this.#again(), Math.max(RETRY_MS, 1000 * problem.retryAfterS));
    }
    if (bare) this.deck.say(troublePlace(problem, () => this.#again()));  // else a card is on, or comes
  }

  /** Try again to post what waits and to get a slate; shows its first card where none is on. */
  async #again() {
    clearTimeout(this.retry);
    if (this.trying) return;
    this.trying = true;
    const queue = this.queue;
    try {
      await this.outbox.flush().catch(() => {});  // it has retries of its own
      if (queue === this.queue) await queue.ask();
    } catch (problem) {
      if (queue === this.queue) this.#failed(problem);
      return;
    } finally {
      this.trying = false;
    }
    if (queue === this.queue) await this.#goOn();
  }

  /** Ask for a key that opens feed and events, and go on with it; where none is given, the next event asks again. */
  async #unlock() {
    if (this.unlocking) return;
    this.unlocking = true;
    await this.turn;  // a card may be on its way
    try {
      const facts = await unlocked(FEED);
      if (!facts) return;
      this.scopes.clear();
      facts.scopes.forEach((scope) => this.scopes.add(scope));
      this.why.weights.read();
      await this.outbox.flush();
      await this.queue.ask();
    } catch (problem) {
      this.#failed(problem);
    } finally {
      this.unlocking = false;
    }
    if (this.queue.coming.length) this.#goOn();
  }
}

const rest = (ms) => new Promise((done) => setTimeout(done, ms));
