// The cards as one moves through them: before, now, next; by swipe, wheel, keys or buttons.
//
//   set(before, now, next)  ->  three cards on one track;  moved(+1 | -1, how)  ->  who asked

import { icon, node } from "/page/dom.js";
import { Rolls } from "/page/wheel.js";

const SWIPE_PX = 56;

export class Deck {
  /** @param move called with (step, {seen}): seen where the next card was in sight already. */
  constructor(element, move) {
    this.element = element;
    this.move = move;
    this.track = node("div", { class: "track" });
    this.before = this.now = this.next = this.said = null;
    this.steps = node("div", { class: "steps" },
      node("button", { type: "button", class: "step", "aria-label": "Back", onclick: () => move(-1, {}) }, icon("up")),
      node("button", { type: "button", class: "step", "aria-label": "Next", onclick: () => move(1, {}) }, icon("down")));
    this.#listen();
  }

  /** Show cards; null where there is none. */
  set(before, now, next) {
    this.said = null;
    const left = this.now?.element;
    if (left !== now.element && left?.contains(document.activeElement)) this.element.focus({ preventScroll: true });
    if (this.track.parentNode !== this.element) this.element.replaceChildren(this.track, this.steps);
    const wanted = [[before, -1], [now, 0], [next, 1]].filter(([card]) => card);
    for (const child of [...this.track.children]) {
      if (!wanted.some(([card]) => card.element === child)) child.remove();
    }
    for (const [card, at] of wanted) {
      card.element.dataset.at = String(at);
      card.element.inert = at !== 0;
      card.element.ariaHidden = at === 0 ? null : "true";  // a neighbour is there for the eye alone
      if (card.element.parentNode !== this.track) this.track.append(card.element);
      card.scene.fit();
      if (at !== 0) card.scene.paint(0);
    }
    this.steps.firstChild.disabled = !before;
    Object.assign(this, { before, now, next });
  }

  /** Say something in place of cards. */
  say(...content) {
    const words = content.map((each) => each.textContent).join("");
    if (words === this.said) return;  // a button there keeps its focus
    this.said = words;
    this.element.replaceChildren(...content);
    this.before = this.now = this.next = null;
  }

  #listen() {
    let start = null;
    let dragged = 0;
    const drag = (px) => this.track.style.setProperty("--drag", `${px}px`);
    this.element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.target.closest("button") || !this.now) return;
      start = { x: event.clientX, y: event.clientY, id: event.pointerId };
      dragged = 0;
    });
    this.element.addEventListener("pointermove", (event) => {
      if (!start || event.pointerId !== start.id) return;
      dragged = event.clientY - start.y;
      if (Math.abs(dragged) < 6) return;
      if (!this.track.classList.contains("dragging")) {
        this.track.classList.add("dragging");
        this.element.setPointerCapture(start.id);
      }
      const free = dragged < 0 ? this.next : this.before;
      drag(free ? dragged : dragged / 4);
    });
    const end = (event) => {
      if (!start || event.pointerId !== start.id) return;
      const moved = this.track.classList.contains("dragging");
      start = null;
      this.track.classList.remove("dragging");
      drag(0);
      if (event.type === "pointerup" && moved && Math.abs(dragged) > SWIPE_PX) {
        this.move(dragged < 0 ? 1 : -1, { seen: true });
      } else if (event.type === "pointerup" && !moved) {
        this.element.dispatchEvent(new CustomEvent("tapped"));
      }
    };
    this.element.addEventListener("pointerup", end);
    this.element.addEventListener("pointercancel", end);
    const rolls = new Rolls();
    this.element.addEventListener("wheel", (event) => {
      if (event.ctrlKey) return;  // the browser's own zoom
      event.preventDefault();
      const step = rolls.step(event);
      if (step) this.move(step, {});
    }, { passive: false });
  }
}
