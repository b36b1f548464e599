// Who is watching: a new viewer, one with a past, or an id one knows.

import { ask } from "/page/api.js";
import { counted, freshId, hash, node, percent, short } from "/page/dom.js";
import { kept, keptInTab } from "/page/kept.js";
import { colours } from "/page/scene.js";

const VIEWER = "skipwise.viewer";

export class Picker {
  constructor(button, scopes, choose) {
    this.button = button;
    this.scopes = scopes;
    this.choose = choose;
    this.dialog = node("dialog", { class: "sheet", "aria-labelledby": "picker-title" });
    document.body.append(this.dialog);
    button.addEventListener("click", () => this.#open());
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
  }

  /** The viewer to begin with: of the address, of this tab, of the last time, or a new one. */
  chosen() {
    const named = new URLSearchParams(location.search).get("viewer");
    return named || keptInTab.read(VIEWER) || kept.read(VIEWER) || newId();
  }

  /** Begin as somebody new. */
  fresh() {
    this.#choose(newId());
  }

  show(viewerId) {
    keptInTab.write(VIEWER, viewerId);
    kept.write(VIEWER, viewerId);
    this.button.replaceChildren(face(viewerId),
      node("span", { class: "words" }, node("span", { class: "unseen" }, "Viewer "), short(viewerId, 24)));
  }

  #choose(viewerId) {
    this.dialog.close();
    if (new URLSearchParams(location.search).has("viewer")) history.replaceState(null, "", "/");
    this.choose(viewerId);
  }

  async #open() {
    const list = node("ul", { class: "people" });
    const named = node("input", { type: "text", id: "viewer-id", maxlength: "128", required: true, autocomplete: "off" });
    const form = node("form", { class: "line", onsubmit: (event) => {
      event.preventDefault();
      if (named.value.trim()) this.#choose(named.value.trim());
    } }, node("label", { for: "viewer-id" }, "An id you know"), named, node("button", { type: "submit" }, "Watch as"));
    this.dialog.replaceChildren(
      node("header", {}, node("h2", { id: "picker-title" }, "Who is watching?"),
        node("button", { type: "button", class: "quiet", onclick: () => this.dialog.close() }, "Close")),
      node("button", { type: "button", class: "main", onclick: () => this.fresh() }, "A new viewer, without a past"),
      list, form);
    this.dialog.showModal();
    if (!this.scopes.has("admin")) {
      list.append(node("li", { class: "note" }, "Viewers of the log are listed to a key with the admin scope."));
      return;
    }
    list.append(node("li", { class: "note" }, "Looking for viewers with a past…"));
    try {
      const { viewers } = await ask("GET", "/v1/viewers");
      list.replaceChildren(...(viewers.length ? viewers.map((each) => this.#person(each))
        : [node("li", { class: "note" }, "The state holds no viewer of a log.")]));
    } catch (problem) {
      list.replaceChildren(node("li", { class: "note" }, `They cannot be listed: ${problem.message}`));
    }
  }

  #person({ viewer_id, num_events, skipped_share, topics }) {
    const likes = topics.length ? `stays for ${topics.map((topic) => short(topic, 20)).join(", ")}` : "";
    return node("li", {}, node("button", { type: "button", onclick: () => this.#choose(viewer_id) },
      face(viewer_id),
      node("span", {}, node("b", {}, short(viewer_id, 40)),
        node("small", {}, `${counted(num_events, "view")}, ${percent(skipped_share)} skipped; ${likes}`))));
  }
}

function newId() {
  return `new-${freshId().slice(0, 8)}`;
}

function face(viewerId) {
  const mark = node("span", { class: "face", "aria-hidden": "true" });
  const { bright, other } = colours(hash(viewerId) % 60);
  mark.style.setProperty("--one", bright);
  mark.style.setProperty("--two", other);
  return mark;
}
