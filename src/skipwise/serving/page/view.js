// One view, measured honestly: only the time a video was really on screen and moving counts.
//
//   begin -> pause / go on -> end  ->  the event, or null where it was no view

import { freshId } from "/page/dom.js";

/** Leaving again so soon, on the way through cards one has seen, is no view. */
export const BOUNCE_MS = 300;

export class View {
  /**
   * @param entry the card: what was served.
   * @param about {viewerId, surface, again}: again where this card had a view before.
   * @param serverAheadMs what to add to this machine's clock to have the server's.
   */
  constructor(entry, about, serverAheadMs) {
    this.entry = entry;
    this.about = about;
    this.eventId = freshId();
    this.shownAtMs = Math.round(Date.now() + serverAheadMs);
    this.flags = { liked: false, followed: false, shared: false, disliked: false };
    this.watchedMs = 0;
    this.since = null;
    this.ended = false;
  }

  get running() {
    return this.since !== null;
  }

  run() {
    if (!this.ended) this.since ??= performance.now();
  }

  pause() {
    if (this.since !== null) this.watchedMs += performance.now() - this.since;
    this.since = null;
  }

  get watchMs() {
    return this.watchedMs + (this.since === null ? 0 : performance.now() - this.since);
  }

  /** Whether leaving now would be a bounce, and so no view. */
  get bounced() {
    const acted = Object.values(this.flags).some(Boolean);
    return this.about.again && this.watchMs < BOUNCE_MS && !acted;
  }

  /** The event as it stands. */
  row() {
    const { entry, about } = this;
    const row = {
      event_id: this.eventId,
      viewer_id: about.viewerId,
      video_id: entry.video_id,
      shown_at_ms: this.shownAtMs,
      watch_ms: Math.round(this.watchMs),
      request_id: entry.request_id,
      variant: entry.variant,
      position: entry.position,
      ...this.flags,
    };
    if (entry.shown.duration_ms) row.duration_ms = entry.shown.duration_ms;
    if (about.surface) row.surface = about.surface;
    if (entry.policy) Object.assign(row, { policy: entry.policy, propensity: entry.propensity });
    return row;
  }

  /** End it; returns the event, or null for a bounce. */
  end() {
    if (this.ended) return null;
    const bounced = this.bounced;
    this.pause();
    this.ended = true;
    return bounced ? null : this.row();
  }
}

/** What is said of a view, `eventId`, that was posted before: flags that have `changed`, in a row of their own. */
export function lateOutcome(eventId, viewerId, videoId, serverAheadMs, changed) {
  return {
    event_id: freshId(),
    of_event_id: eventId,
    viewer_id: viewerId,
    video_id: videoId,
    known_at_ms: Math.round(Date.now() + serverAheadMs),
    ...changed,
  };
}
