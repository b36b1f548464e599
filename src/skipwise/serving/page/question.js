// The lab's cards: one question, one line of answer, one drawing.
//
//   question(name, title)  ->  a card that loads;  fill(name, draw)  ->  drawn, or says why it is not

import { node, put } from "/page/dom.js";

/** Name -> the parts of a card: {title, answer, drawing}. */
export const cards = {};
const held = new Map();
const filled = new Set();

/** Make a card. */
export function question(name, title, wide = false) {
  const answer = node("p", { class: "answer" });
  const drawing = node("div", {}, node("p", { class: "empty" }, "Loading…"));
  const heading = node("h2", { id: `q-${name}` }, title);
  cards[name] = { answer, drawing, title: heading };
  return node("section", { class: `question${wide ? " wide" : ""}`, id: name, "aria-labelledby": heading.id }, heading, answer, drawing);
}

/** Put an answer and a drawing into a card. */
export function show(name, answer, ...drawing) {
  put(cards[name].answer, answer);
  put(cards[name].drawing, ...drawing);
}

/** Say in place of a drawing that there is nothing to draw. */
export function nothing(...words) {
  return node("div", { class: "empty" }, node("p", {}, ...words));
}

/** Whether something is not as it was drawn last; a card that stays as it is keeps its focus. */
export function changed(name, value) {
  const text = JSON.stringify(value);
  if (held.get(name) === text) return false;
  held.set(name, text);
  return true;
}

/** Draw a card anew, also where it is as it was. */
export function forget(name) {
  held.delete(name);
}

/**
 * Draw a card; where that fails, it says so and is tried again. One that is drawn stays while its
 * figures cannot be had; the status line says that they are old.
 */
export async function fill(name, drawn) {
  try {
    await drawn();
    filled.add(name);
  } catch (problem) {
    const asked = problem.status >= 0;
    if (!asked) console.error(problem);
    if (asked && filled.has(name)) return;
    forget(name);
    filled.delete(name);
    show(name, "", failed(problem));
  }
}

/** Say in every card why it is not drawn. */
export function failAll(problem) {
  for (const name of Object.keys(cards)) show(name, "", failed(problem));
}

function failed(problem) {
  return node("p", { class: "empty", role: "alert" }, problem.status === 0
    ? "No connection to the server; it is tried again." : `It cannot be drawn: ${problem.message}`);
}
