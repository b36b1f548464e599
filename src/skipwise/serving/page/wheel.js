// Rolls of a wheel or a trackpad: one roll moves one card, however long it runs out.
//
//   wheel events  ->  Rolls.step  ->  +1, -1 or 0
//
// What follows a step is its rest until it pauses, or until it is pushed anew: faster than it had
// become, by far, in size and in speed (events that pile up while a card is drawn come as one large one).

const STEP_PX = 40;
const PAUSE_MS = 180;
const REST_MS = 260;
const PUSH_PX = 12;
const PUSHED_BY = 3;
const PX_OF_MODE = [1, 16, 800];  // WheelEvent.deltaMode: pixels, lines, pages

export class Rolls {
  constructor() {
    this.rolled = this.lastMs = this.movedMs = 0;
    this.ebb = null;
  }

  /** Which way an event moves the cards; 0 where it does not. */
  step(event) {
    const px = event.deltaY * (PX_OF_MODE[event.deltaMode] || 1);
    const gapMs = event.timeStamp - this.lastMs;
    this.lastMs = event.timeStamp;
    if (gapMs > PAUSE_MS) this.#begin();
    const [size, speed] = [Math.abs(px), Math.abs(px) / Math.max(gapMs, 1)];
    if (this.ebb) {
      const rests = event.timeStamp - this.movedMs < REST_MS;
      const pushed = size >= PUSH_PX && size > PUSHED_BY * this.ebb.size && speed > PUSHED_BY * this.ebb.speed;
      if (rests || !pushed) {
        const bound = rests ? Math.max : Math.min;  // it may still rise at first
        this.ebb = { size: bound(this.ebb.size, size), speed: bound(this.ebb.speed, speed) };
        return 0;
      }
      this.#begin();
    }
    this.rolled += px;
    if (Math.abs(this.rolled) < STEP_PX) return 0;
    this.ebb = { size, speed };
    this.movedMs = event.timeStamp;
    return Math.sign(this.rolled);
  }

  #begin() {
    this.rolled = 0;
    this.ebb = null;
  }
}
