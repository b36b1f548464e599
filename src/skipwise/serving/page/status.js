// What the feed says of itself: in the line at the top, and where cards would stand.

import { node, short } from "/page/dom.js";

/** How what was done fares where nothing was done yet; `Outbox` tells more. */
export const NOTHING_SENT = { waiting: 0, failing: null, refused: [], inTab: 0, full: false };

/** Write into the status line how what was done fares, `sent`, and what went wrong, `trouble` or null. */
export function tellStatus(line, sent, trouble) {
  const [state, words] = stateOf(sent, trouble);
  if (line.dataset.state !== state || line.lastChild.textContent !== words) {
    line.dataset.state = state;
    line.lastChild.textContent = words;
    line.title = words;
  }
}

function stateOf({ waiting, failing, refused, inTab, full }, trouble) {
  const events = `${waiting} ${waiting === 1 ? "event" : "events"}`;
  const kept = !inTab ? `${events} kept here` : `${events} kept, ${inTab === waiting ? "" : `${inTab} `}in this tab only`;
  if (waiting && failing) {
    return failing.status === 0 ? ["offline", `offline: ${kept}`]
      : ["refused", failing.locked ? `needs a key: ${kept}` : `${kept}: ${failing.message}`];
  }
  return waiting ? ["sending", `sending ${waiting}`]
    : refused.length ? ["refused", `${refused.length} refused: ${refused.at(-1).why}`]
      : trouble ? ["refused", `no new slate: ${trouble}`]
        : full ? ["full", "saved; no room to keep more here"]
          : ["saved", "saved"];
}

/** What stands where cards would. */
export function place(kind, title, words, ...more) {
  return node("div", { class: "place", "data-kind": kind },
    kind === "loading" ? node("div", { class: "ghost", "aria-hidden": "true" }) : null,
    node("p", { class: "title", role: kind === "loading" ? null : "alert" }, title),
    words ? node("p", {}, words) : null, ...more);
}

/** What stands there when there is no next card: what went wrong, and a button that calls `again`. */
export function troublePlace(problem, again) {
  const offline = problem.status === 0;
  return place(offline ? "offline" : "error",
    offline ? "No connection to the server." : problem.status ? "The server cannot make a slate." : "This page has a fault.",
    offline ? "What you did is kept here and is sent when it is back." : problem.message,
    node("button", { type: "button", class: "main", onclick: again }, "Try again"));
}

/** What stands there when nothing is left; `fresh` begins as a new viewer. */
export function seenPlace(numVideos, viewerId, fresh) {
  return place("empty", "You have seen everything there is.",
    `All ${numVideos.toLocaleString()} videos, or all that may be shown to ${short(viewerId, 40)}.`,
    node("button", { type: "button", class: "main", onclick: fresh }, "Start as a new viewer"));
}
