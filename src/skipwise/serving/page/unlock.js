// A key where one is needed: asked for in a dialog one can leave, tried before it is kept.
//
//   scopes it must open  ->  unlocked  ->  what the server says of the page with it, or null: rather not

import { ask, key } from "/page/api.js";
import { node } from "/page/dom.js";

/** What the feed needs, and the lab; a key for the lab is best one for both. */
export const FEED = ["feed", "events"];
export const LAB = ["admin"];

/** Make sure of a key that opens `needed`, asking for one where there is none; throws `Failed`. */
export async function unlocked(needed) {
  const facts = await ask("GET", "/v1/page");
  const why = refusalOf(facts.scopes, needed);
  return why ? askForKey(needed, key.get() === null ? "" : why) : facts;
}

/** Why a key that opens `scopes` does not do; "" where it does. A key nobody knows opens nothing. */
function refusalOf(scopes, needed) {
  if (!scopes.length) return "This server does not know that key.";
  const missing = needed.filter((scope) => !scopes.includes(scope));
  return missing.length ? `That key opens ${scopes.join(", ")}; this needs ${missing.join(", ")}.` : "";
}

/** Ask until a key opens `needed`; `refused` says why the last one did not. */
function askForKey(needed, refused) {
  return new Promise((done) => {
    const field = node("input", { type: "password", id: "key", required: true, autocomplete: "off", "aria-describedby": "key-refused key-words" });
    const alert = node("p", { class: "alert", id: "key-refused", role: "alert" });
    const opens = node("button", { type: "submit", class: "main" }, "Open");
    const say = (why) => {
      alert.textContent = why;
      if (why) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
    };
    const end = (facts) => {
      dialog.close();  // what had the focus before has it again
      dialog.remove();
      done(facts);
    };
    const attempt = async () => {
      const before = key.get();
      key.set(field.value.trim());
      opens.disabled = true;
      say("");
      try {
        const facts = await ask("GET", "/v1/page");
        const why = refusalOf(facts.scopes, needed);
        if (!why) return end(facts);
        say(why);
      } catch (problem) {
        say(problem.status ? `It cannot be tried: ${problem.message}` : "No connection to the server.");
      }
      key.set(before);
      opens.disabled = false;
      field.select();
    };
    const dialog = node("dialog", { class: "sheet", "aria-labelledby": "key-title" },
      node("form", { class: "stack", onsubmit: (event) => {
        event.preventDefault();
        attempt();
      } },
      node("h2", { id: "key-title" }, "This server asks for a key"),
      node("p", { id: "key-words" }, "It is kept in this tab and sent to this server only. Make one with ",
        node("code", {}, `skipwise key NAME --keys FILE --scopes ${[...new Set([...FEED, ...needed])]}`), "."),
      node("label", { for: "key" }, "Key"), field, alert, opens,
      node("button", { type: "button", class: "quiet", onclick: () => end(null) }, "Cancel")));
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      end(null);
    });
    document.body.append(dialog);
    dialog.showModal();
    say(refused);
  });
}

/** What stands in place of a page that was left locked: a button that asks again. */
export function lockedButton() {
  return node("button", { type: "button", class: "main", onclick: () => location.reload() }, "Give a key");
}
