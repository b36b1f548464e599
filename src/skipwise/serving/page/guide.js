// The guided minute: skip every video of one topic for ten swipes, and see what that did.
//
// Every figure is of slates the server made and of events it has on disk.

import { node, percent, short, svg } from "/page/dom.js";
import { kept } from "/page/kept.js";
import { didWith, sharesOf } from "/page/learnt.js";

const SEEN = "skipwise.guided";
const SWIPES = 10;

export class Guide {
  /**
   * @param panel what it stands in.
   * @param queue called for the slates that were made.
   * @param leave called when a button here had the focus and is gone, or is used no more.
   */
  constructor(panel, queue, leave = () => {}) {
    this.queue = queue;
    this.leave = leave;
    this.box = node("section", { class: "guide", hidden: true, "aria-live": "polite" });
    panel.prepend(this.box);
  }

  /** A viewer begins; the first visit is offered the tour. */
  begin(viewerId) {
    this.viewerId = viewerId;
    this.topic = null;
    this.points = [];
    this.swipes = this.skips = 0;
    this.box.hidden = true;
    this.offered = kept.read(SEEN) !== null || !viewerId.startsWith("new-");
  }

  /** A slate has come. */
  slate(queue) {
    const share = sharesOf(queue.slates.at(-1));
    if (!this.offered && share.size) {
      this.offered = true;
      const [topic] = [...share.entries()].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]))[0];
      this.#offer(topic);
    }
    if (!this.topic || this.points.at(-1).swipes === SWIPES) return;
    this.points.push({ swipes: this.swipes, share: share.get(this.topic) || 0 });
    this.#draw();
  }

  /** An event is on disk. */
  kept(entry, row, glanceMs) {
    if (!this.topic || this.swipes >= SWIPES) return;
    const has = (entry.shown.topics || []).includes(this.topic);
    this.swipes += 1;
    if (has && ["skipped", "rejected"].includes(didWith(row, glanceMs))) this.skips += 1;
    if (has && ["watched", "liked"].includes(didWith(row, glanceMs))) this.watched += 1;
  }

  #offer(topic) {
    const name = short(topic, 24);
    this.box.hidden = false;
    this.box.replaceChildren(
      node("h2", {}, "One minute: see it learn"),
      node("p", {}, "Skip every ", node("b", { dir: "auto" }, name), " video for ten swipes. Watch the others for a few seconds. Then look what became of ", node("b", { dir: "auto" }, name), "."),
      node("p", { class: "pair" },
        node("button", { type: "button", class: "main", onclick: () => this.#start(topic) }, "Start"),
        node("button", { type: "button", class: "quiet", onclick: () => this.close() }, "Not now")));
  }

  #start(topic) {
    kept.write(SEEN, "1");
    this.topic = topic;
    this.swipes = this.skips = this.watched = 0;
    const slate = this.queue().slates.at(-1);
    this.points = [{ swipes: 0, share: sharesOf(slate).get(topic) || 0 }];
    if (this.#focused) this.leave();
    this.#draw();
  }

  /** End the tour, or turn its offer down. */
  close() {
    if (this.box.hidden) return;
    kept.write(SEEN, "1");
    this.topic = null;
    if (this.#focused) this.leave();
    this.box.hidden = true;
  }

  get #focused() {
    return this.box.contains(document.activeElement);
  }

  #draw() {
    const name = short(this.topic, 24);
    const first = this.points[0].share;
    const now = this.points.at(-1).share;
    const done = this.swipes >= SWIPES;
    const title = done
      ? now < first ? `${cap(name)} fell from ${percent(first)} to ${percent(now)}` : `${cap(name)} stands at ${percent(now)}`
      : `Skip every ${name} video`;
    const words = done
      ? `After ten swipes ${Math.round(now * 10)} of ten videos to come ${Math.round(now * 10) === 1 ? "was" : "were"} of ${name}; before, ${Math.round(first * 10)}. On the way you skipped ${this.skips}` +
        (this.watched ? ` and watched ${this.watched}, which it has learnt as well.` : ".")
      : `${this.swipes} of ${SWIPES} swipes, ${this.skips} of ${name} skipped. In the next ten: ${percent(now)}.`;
    const stays = this.#focused;  // on the button, which is made anew
    this.box.hidden = false;
    this.box.replaceChildren(node("h2", {}, title), this.#chart(), node("p", {}, words),
      node("p", { class: "pair" }, node("button", { type: "button", class: done ? "main" : "quiet", onclick: () => this.close() }, done ? "Done" : "Stop")));
    if (stays) this.box.querySelector("button").focus({ preventScroll: true });
  }

  #chart() {
    const [width, height, left, bottom] = [280, 96, 34, 18];
    const most = Math.max(0.4, ...this.points.map((point) => point.share));
    const x = (swipes) => left + (swipes / SWIPES) * (width - left - 8);
    const y = (share) => 6 + (1 - share / most) * (height - bottom - 10);
    const line = this.points.map((point, at) => `${at ? "L" : "M"}${x(point.swipes)} ${y(point.share)}`).join("");
    const last = this.points.at(-1);
    return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img",
      "aria-label": `Share of ${short(this.topic, 24)} in the next ten, by swipe` },
    svg("path", { class: "axis", d: `M${left} ${y(0)}H${width - 8}` }),
    svg("text", { class: "tick", x: left - 6, y: y(most) + 8, "text-anchor": "end" }, percent(most)),
    svg("text", { class: "tick", x: left - 6, y: y(0), "text-anchor": "end" }, percent(0)),
    svg("text", { class: "tick", x: width - 8, y: height - 4, "text-anchor": "end" }, `${SWIPES} swipes`),
    svg("path", { class: "line", d: line }),
    svg("circle", { class: "now", cx: x(last.swipes), cy: y(last.share), r: 4 }));
  }
}

function cap(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
