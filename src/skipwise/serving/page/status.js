// What the feed says of itself: in the line at the top, and where cards would stand.

import { node } from "/page/dom.js";

/** Write into the status line how what was done fares, `sent`, and what went wrong, `trouble` or null. */
export function tellStatus(line, sent, trouble) {
  const [state, words] = stateOf(sent, trouble);
  if (line.dataset.state !== state || line.lastChild.textContent !== words) {
    line.dataset.state = state;
    line.lastChild.textContent = words;
    line.title = words;
  }
}

function stateOf({ waiting, offline, locked, refused }, trouble) {
  const kept = `${waiting} ${waiting === 1 ? "event" : "events"} kept here`;
  return offline ? ["offline", `offline: ${kept}`]
    : locked ? ["refused", `needs a key: ${kept}`]
      : waiting ? ["sending", `sending ${waiting}`]
        : refused.length ? ["refused", `${refused.length} refused: ${refused.at(-1).why}`]
          : trouble ? ["refused", `no new slate: ${trouble}`]
            : ["saved", "saved"];
}

/** What stands where cards would. */
export function place(kind, title, words, ...more) {
  return node("div", { class: "place", "data-kind": kind },
    kind === "loading" ? node("div", { class: "ghost", "aria-hidden": "true" }) : null,
    node("p", { class: "title", role: kind === "loading" ? null : "alert" }, title),
    words ? node("p", {}, words) : null, ...more);
}
