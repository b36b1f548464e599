// What counts how much in the score, and what that does to the slate at once.

import { ask, Failed } from "/page/api.js";
import { node, short } from "/page/dom.js";
import { titleOf } from "/page/card.js";
import { outlasting } from "/page/terms.js";

const sliders = ({ effective, finished }) => [
  ["glance_power", "Avoid skips", 0, 6, 0.1],
  ["watch_power", "Watch time", 0, 2, 0.05],
  ["effective.power", `Views ${effective}`, 0, 4, 0.1],
  ["long.power", "Long views", 0, 4, 0.1],
  ["finished.power", `Views ${finished}`, 0, 4, 0.1],
  ["like.scale", "Likes", 0, 50, 0.5],
  ["negative_power", "Avoid “not for me”", 0, 60, 1],
];
const NEXT = 5;

export class Weights {
  constructor(feed) {
    this.feed = feed;
    this.inputs = new Map();
    this.moved = new Map();  // name -> what a slider was moved to, until the server has answered
    this.turn = Promise.resolve();  // one change at a time: a late answer cannot undo a newer one
    this.next = node("ol", { class: "next-up" });
    this.words = node("p", { class: "note", role: "status" });
    this.note = node("p", { class: "note" });
    this.fields = node("fieldset", {}, node("legend", { class: "unseen" }, "Weights of the score"),
      sliders(outlasting(feed.facts)).map((slider) => this.#slider(...slider)),
      node("button", { type: "button", class: "quiet", onclick: () => this.#soon(true) }, "Back to the defaults"));
    this.anew = node("button", { type: "button", class: "quiet", onclick: () => this.read() }, "Read them again");
    this.element = node("section", { class: "weights" }, node("h3", {}, "What should count?"),
      this.note, this.fields, this.words, this.anew, node("h3", {}, "Next up"), this.next);
    this.read();
  }

  /** The slate to come has changed. */
  coming(entries) {
    const held = new Map([...this.next.children].map((row, at) => [row.dataset.video, at]));
    this.next.replaceChildren(...entries.slice(0, NEXT).map((entry, at) => {
      const before = held.get(entry.video_id);
      const moved = before === undefined ? "new" : before > at ? "up" : before < at ? "down" : "same";
      return node("li", { "data-video": entry.video_id, "data-moved": moved },
        node("span", { class: "name", dir: "auto" }, short(titleOf(entry.video_id, entry.shown), 34)),
        node("span", { class: "value" }, entry.score.toFixed(2)));
    }));
  }

  #slider(name, label, least, most, step) {
    const id = `weight-${name.replace(".", "-")}`;
    const value = node("output", { for: id }, "–");
    const input = node("input", { type: "range", id, min: least, max: most, step, oninput: () => {
      value.textContent = input.value;
      this.moved.set(name, Number(input.value));
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.#soon(), 80);
    } });
    this.inputs.set(name, { input, value });
    return node("div", { class: "slider" }, node("label", { for: id }, label), input, value);
  }

  /** Read what is in force; nothing can be moved before. */
  async read() {
    const mayChange = this.feed.scopes.has("admin");
    this.note.textContent = mayChange
      ? "Moving a slider re-ranks what comes next, for every viewer of this server."
      : "The weights are changed with a key that has the admin scope; this one has not.";
    this.fields.disabled = this.anew.hidden = true;
    if (!mayChange) return;
    try {
      this.weights = (await ask("GET", "/v1/score")).weights;
      this.moved.clear();
      this.#show();
      this.words.textContent = "";
      this.fields.disabled = false;
    } catch (problem) {
      this.words.textContent = `The weights cannot be read: ${problem.message}`;
      this.anew.hidden = false;
    }
  }

  /** Put the sliders where the weights in force are, but for those that have been moved since. */
  #show() {
    for (const [name, { input, value }] of this.inputs) {
      if (this.moved.has(name)) continue;
      const [outer, inner] = name.split(".");
      const weight = inner ? this.weights[outer][inner] : this.weights[outer];
      input.value = weight;
      value.textContent = String(Number(weight.toFixed(3)));  // also where no slider reaches
    }
  }

  /** What is in force, but for what was moved: a slider is coarser and shorter than a weight may be. */
  #wanted() {
    const weights = structuredClone(this.weights);
    for (const [name, value] of this.moved) {
      const [outer, inner] = name.split(".");
      if (inner) weights[outer][inner] = value;
      else weights[outer] = value;
    }
    return weights;
  }

  /** Change them when the change before has been answered: to what was moved, or to the defaults. */
  #soon(anew = false) {
    if (anew) {
      clearTimeout(this.timer);
      this.moved.clear();
    }
    this.turn = this.turn.then(() => this.#put(anew)).catch((problem) => console.error(problem));
  }

  async #put(anew) {
    if (!anew && !this.moved.size) return;  // it went with the change before
    const sent = new Map(this.moved);
    let version = null;
    try {
      const told = await ask("PUT", "/v1/score", anew ? {} : this.#wanted());
      this.weights = told.weights;
      version = told.version;
      await this.feed.renew();
      this.words.textContent = `Weights version ${version} in force.`;
    } catch (problem) {
      if (!(problem instanceof Failed)) throw problem;
      this.words.textContent = version !== null
        ? `Weights version ${version} in force; what comes next is not ranked by them yet: ${problem.message}.`
        : problem.status ? `Not changed: ${problem.message}` : "No answer: they may be changed or not.";
      if (version === null && !problem.status) this.anew.hidden = false;
    } finally {
      for (const [name, value] of sent) if (this.moved.get(name) === value) this.moved.delete(name);
      this.#show();
    }
  }
}
