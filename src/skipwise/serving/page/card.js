// One card: a drawn video with its words and what can be done with it.

import { DEEDS } from "/page/deeds.js";
import { clock, icon, node, short } from "/page/dom.js";
import { Scene } from "/page/scene.js";

/** What a video is called: its title, or what is known of it. */
export function titleOf(videoId, shown) {
  if (shown.title) return shown.title;
  const topic = shown.topics?.[0];
  return topic ? `A video on ${topic}` : `Video ${videoId}`;
}

export class Card {
  /**
   * @param entry what was served.
   * @param topics the catalogue's topics, by which scenes are told apart.
   * @param act called with the name of what a button does.
   * @param glanceMs before this, leaving is a skip.
   */
  constructor(entry, topics, act, glanceMs) {
    this.entry = entry;
    const { shown } = entry;
    const topic = shown.topics?.[0] || "";
    const place = topics.indexOf(topic) >= 0 ? topics.indexOf(topic) : topics.length;
    this.durationMs = shown.duration_ms || null;
    this.canvas = node("canvas", { class: "scene", "aria-hidden": "true" });
    this.played = node("span", { class: "played" });
    this.time = node("span", { class: "time" });
    this.buttons = {};
    this.element = node("article", { class: "card", tabindex: "-1" },
      this.canvas,
      node("div", { class: "shade", "aria-hidden": "true" }),
      node("div", { class: "paused", "aria-hidden": "true" }, icon("play")),
      this.#words(shown, act),
      this.#rail(act),
      this.#progress(glanceMs));
    this.element.setAttribute("aria-label", this.spoken());
    this.scene = new Scene(this.canvas, entry.video_id, place, topic);
  }

  /** What a screen reader says when the card comes. */
  spoken() {
    const { shown, video_id } = this.entry;
    const parts = [short(titleOf(video_id, shown), 120)];
    const author = shown.author_name || shown.author_id;
    if (author) parts.push(`by ${short(author, 60)}`);
    if (shown.topics?.length) parts.push(shown.topics.slice(0, 4).map((t) => short(t, 30)).join(", "));
    if (this.durationMs) parts.push(`${Math.round(this.durationMs / 1000)} seconds`);
    return parts.join("; ");
  }

  /** Bring it to the state of a view. */
  show(view) {
    const ms = view ? view.watchMs : 0;
    const round = this.durationMs ? (ms % this.durationMs) / this.durationMs : 0;
    this.played.style.transform = `scaleX(${round})`;
    const time = this.durationMs ? `${clock(ms % this.durationMs)} / ${clock(this.durationMs)}` : clock(ms);
    if (this.time.textContent !== time) this.time.textContent = time;  // else no layout in this frame
    this.scene.paint(ms);
  }

  /** Show which buttons are pressed. */
  press(flags) {
    for (const [name, [, flag]] of Object.entries(DEEDS)) {
      this.buttons[name].setAttribute("aria-pressed", String(Boolean(flags[flag])));
    }
  }

  #words(shown, act) {
    const author = shown.author_name || shown.author_id;
    const chips = (shown.topics || []).slice(0, 4)
      .map((topic) => node("li", { dir: "auto" }, short(topic, 30)));
    return node("div", { class: "words" },
      chips.length ? node("ul", { class: "chips", "aria-label": "Topics" }, chips) : null,
      node("h2", { dir: "auto" }, short(titleOf(this.entry.video_id, shown), 300)),
      node("p", { class: "author" },
        author ? node("bdi", {}, short(author, 120)) : "author unknown",
        node("span", { class: "id" }, ` · ${short(this.entry.video_id, 40)}`)),
      node("button", { type: "button", class: "ask", onclick: () => act("why") },
        icon("why"), "Why this?"));
  }

  #rail(act) {
    return node("div", { class: "rail", role: "group", "aria-label": "What you think of it" },
      Object.entries(DEEDS).map(([name, [label]]) => {
        this.buttons[name] = node("button",
          { type: "button", class: `act ${name}`, "aria-pressed": "false", onclick: () => act(name) },
          icon(name), node("span", {}, label));
        return this.buttons[name];
      }));
  }

  #progress(glanceMs) {
    const mark = node("span", { class: "mark" });
    if (this.durationMs > glanceMs) {
      mark.style.setProperty("--at", String(glanceMs / this.durationMs));
    } else mark.hidden = true;
    return node("div", { class: "progress", "aria-hidden": "true" },
      node("span", { class: "bar-line" }, this.played, mark), this.time);
  }
}
