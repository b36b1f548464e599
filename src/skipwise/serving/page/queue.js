// What comes next: a slate, asked anew after every event, so that it has learnt from the last one.
//
//   ask() -> POST /v1/feed -> coming, best first;  take() -> the next card
//
// - Only the newest answer counts; an older one that comes late is dropped.
// - A card that was shown on this page does not come again.

import { ask } from "/page/api.js";

export const SLATE = 10;
const MOST = 200;

export class Queue {
  constructor(viewerId, surface, tell) {
    this.viewerId = viewerId;
    this.surface = surface;
    this.tell = tell;
    this.coming = [];
    this.shown = new Set();
    this.slates = [];
    this.asked = 0;
    this.answered = 0;
    this.empty = false;
  }

  /** Ask for a slate; resolves when it, or a newer one, is there. Throws `Failed`. */
  async ask(k = SLATE) {
    this.asked += 1;
    const number = this.asked;
    const slate = await ask("POST", "/v1/feed", {
      viewer_id: this.viewerId,
      k,
      explain: true,
      describe: true,
      ...(this.surface ? { surface: this.surface } : {}),
    });
    if (number < this.answered) return;
    this.answered = number;
    const { request_id, variant, model, score_version } = slate;
    const entries = slate.items.map((item, position) => ({
      ...item, position, request_id, variant, model, score_version, degraded: slate.degraded || [],
    }));
    this.coming = entries.filter((entry) => !this.shown.has(entry.video_id));
    this.empty = entries.length === 0;
    if (!this.coming.length && entries.length && k < MOST) {  // what was done is not kept there yet
      await this.ask(Math.min(MOST, k + this.shown.size));
      return;
    }
    this.empty ||= !this.coming.length;
    this.slates.push(entries.slice(0, SLATE).map((entry) => entry.shown.topics || []));
    this.tell(this);
  }

  /** Take the next card; null where there is none. */
  take() {
    const entry = this.coming.shift() || null;
    if (entry) this.shown.add(entry.video_id);
    return entry;
  }
}
