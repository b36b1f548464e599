// The feed's beginning: what the page may ask for, a key where it may ask for nothing, the first viewer.

import { node } from "/page/dom.js";
import { Feed } from "/page/feed.js";
import { NOTHING_SENT, place, tellStatus } from "/page/status.js";
import { FEED, lockedButton, unlocked } from "/page/unlock.js";

async function start() {
  let facts;
  try {
    facts = await unlocked(FEED);
  } catch (problem) {
    tellStatus(document.getElementById("status"), NOTHING_SENT, problem.status ? problem.message : "no connection");
    document.getElementById("deck").replaceChildren(place(problem.status ? "error" : "offline",
      problem.status ? "The server cannot answer." : "No connection to the server.", problem.message,
      node("button", { type: "button", class: "main", onclick: () => location.reload() }, "Try again")));
    return;
  }
  if (!facts) {
    const button = lockedButton();
    tellStatus(document.getElementById("status"), NOTHING_SENT, "a key is needed");
    document.getElementById("deck").replaceChildren(place("locked", "A key is needed.", "The feed opens with one that has the scopes feed and events.", button));
    button.focus();
    return;
  }
  const feed = new Feed(facts);
  await feed.begin(feed.picker.chosen());
}

start();
