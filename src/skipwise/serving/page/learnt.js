// What it has learnt so far: what was done with each card, and what that did to the slates to come.

import { node, percent, seconds, short } from "/page/dom.js";

const SHOWN_AT_MOST = 8;
const EVENTS_AT_MOST = 60;

export class Learnt {
  constructor(element, facts) {
    this.facts = facts;
    this.dots = node("ol", { class: "dots", "aria-label": "What you did, oldest first" });
    this.rows = node("ul", { class: "shares" });
    this.last = node("p", { class: "last" }, "Nothing yet: watch, or skip.");
    this.rowOf = new Map();
    element.append(
      node("section", {}, node("h2", {}, "What you did"), this.dots, this.last),
      node("section", {}, node("h2", {}, "What comes next"),
        node("p", { class: "note" }, "Topics of the next ten videos; a video may have several. The line is where your first slate was."),
        this.rows));
  }

  /** Forget everything: another viewer. */
  begin() {
    this.dots.replaceChildren();
    this.rows.replaceChildren();
    this.rowOf.clear();
    this.last.textContent = "Nothing yet: watch, or skip.";
    this.first = null;
    this.number = 0;
  }

  /** A view has ended. */
  left(entry, row, glanceMs) {
    const did = didWith(row, glanceMs);
    this.number += 1;
    const dot = node("li", { class: `dot ${did}`, id: `dot-${row.event_id}`, title: `${did} after ${seconds(row.watch_ms / 1000)}` },
      node("span", { class: "unseen" }, `${did} ${(entry.shown.topics || []).join(", ")}`));
    this.dots.append(dot);
    while (this.dots.children.length > EVENTS_AT_MOST) this.dots.firstChild.remove();
    const words = { skipped: "Skipped", watched: "Watched", liked: "Liked", rejected: "Not for you" }[did];
    const topic = entry.shown.topics?.[0];
    this.lastId = row.event_id;
    this.lastWords = `${words}${topic ? `: ${short(topic, 20)}` : ""}, ${seconds(row.watch_ms / 1000)}`;
    this.last.textContent = `${this.lastWords}. Sending…`;
  }

  /** It is on disk. */
  kept(eventId, ms) {
    document.getElementById(`dot-${eventId}`)?.classList.add("kept");
    if (eventId === this.lastId) this.last.textContent = `${this.lastWords}. On disk after ${Math.round(ms)} ms.`;
  }

  /** The server has refused it. */
  refused(eventId) {
    if (eventId === this.lastId) this.last.textContent = `${this.lastWords}. Refused, so not learnt from.`;
  }

  /** A slate has come. */
  slate(queue) {
    const slate = queue.slates.at(-1);
    const share = sharesOf(slate);
    this.first ??= share;
    const wanted = [...new Set([...this.first.keys(), ...share.keys()])];
    const worth = (topic) => Math.max(this.first.get(topic) || 0, share.get(topic) || 0);
    const listed = new Set([...wanted].sort((a, b) => worth(b) - worth(a)).slice(0, SHOWN_AT_MOST));
    for (const [topic, row] of this.rowOf) {
      if (!listed.has(topic)) {
        row.element.remove();
        this.rowOf.delete(topic);
      }
    }
    for (const topic of listed) this.#row(topic, share.get(topic) || 0, this.first.get(topic) || 0);
    const ordered = [...this.rowOf.entries()].sort((a, b) => b[1].share - a[1].share || a[0].localeCompare(b[0]));
    ordered.forEach(([, row], at) => row.element.style.setProperty("order", String(at)));
  }

  #row(topic, share, first) {
    if (!this.rowOf.has(topic)) {
      const bar = node("span", { class: "fill" });
      const value = node("span", { class: "value" });
      const element = node("li", {}, node("span", { class: "name", dir: "auto" }, short(topic, 24)),
        node("span", { class: "track-line", "aria-hidden": "true" }, bar, node("span", { class: "was" })), value);
      this.rows.append(element);
      this.rowOf.set(topic, { element, bar, value, share });
    }
    const row = this.rowOf.get(topic);
    row.share = share;
    row.element.style.setProperty("--share", String(share));
    row.element.style.setProperty("--was", String(first));
    row.element.dataset.moved = share > first ? "up" : share < first ? "down" : "same";
    row.value.textContent = percent(share);
  }
}

/** Topic -> share of the slate's videos that have it. */
export function sharesOf(slate) {
  const share = new Map();
  for (const topics of slate) {
    for (const topic of new Set(topics)) share.set(topic, (share.get(topic) || 0) + 1 / slate.length);
  }
  return share;
}

/** What a view came to, in one word. */
export function didWith(row, glanceMs) {
  if (row.disliked) return "rejected";
  if (row.liked || row.followed || row.shared) return "liked";
  return row.watch_ms < Math.min(glanceMs, row.duration_ms || glanceMs) ? "skipped" : "watched";
}
