// The feed's beginning: what the page may ask for, a key where it may ask for nothing, the first viewer.

import { ask, key } from "/page/api.js";
import { node } from "/page/dom.js";
import { Feed } from "/page/feed.js";
import { askForKey } from "/page/picker.js";
import { NOTHING_SENT, place, tellStatus } from "/page/status.js";

async function start() {
  let facts;
  try {
    facts = await ask("GET", "/v1/page");
    while (!facts.feed) {
      await askForKey("feed,events", key.get() !== null);
      facts = await ask("GET", "/v1/page");
    }
  } catch (problem) {
    tellStatus(document.getElementById("status"), NOTHING_SENT, problem.status ? problem.message : "no connection");
    document.getElementById("deck").replaceChildren(place(problem.status ? "error" : "offline",
      problem.status ? "The server cannot answer." : "No connection to the server.", problem.message,
      node("button", { type: "button", class: "main", onclick: () => location.reload() }, "Try again")));
    return;
  }
  const feed = new Feed(facts);
  await feed.begin(feed.picker.chosen());
}

start();
