// The lab's card of score weights: what can be had for what.

import { ask } from "/page/api.js";
import { scatter } from "/page/chart.js";
import { node, percent, seconds, short } from "/page/dom.js";
import { cards, changed, nothing, show } from "/page/question.js";

const OUTCOMES = {  // what a trade may name: words, what is better, and how it is written
  glance: ["skips", "fewer", (value) => percent(value, 1)],
  watch_s: ["watch time", "more", seconds],
  effective: ["effective views", "more", (value) => percent(value, 1)],
  negative: ["“not for me”", "fewer", (value) => percent(value, 2)],
};

/** Draw it. */
export async function drawFront() {
  const told = await ask("GET", "/v1/lab/front");
  const { request_id: _, ...rest } = told;
  if (!changed("front", rest)) return;
  const { trials } = told;
  const searched = told.source === "searched";
  cards.front.title.textContent = searched ? "What can be had for what?" : "What would other weights promise?";
  const [x, y] = [OUTCOMES[told.improve], OUTCOMES[told.keep]];
  const known = trials.some((trial) => trial.now);
  show("front", !trials.length ? "" : searched
    ? `Real outcomes of the first ${told.at} places of ${told.slates.toLocaleString()} slates that were shown, ordered anew.${known ? "" : " The weights in force now were not tried."}`
    : [`Predicted for the first ${told.at} places of ${told.slates} viewers, not measured: `, node("code", {}, "skipwise tune"), " in a folder beside the run measures it."],
  trials.length ? scatter(`${searched ? "Real" : "Predicted"} ${x[0]} and ${y[0]} by score weights; the front: `, trials.map((trial) => ({
    ...trial, x: trial.improve, y: trial.keep, words: wordsOf(trial, x, y),
  })), ...[x, y].map(([words, better]) => `${words}: ${better} is better`), x[2], y[2])
    : nothing("The state holds no viewer of a log to ask for."),
  trials.length ? node("p", { class: "legend" },
    known ? node("span", {}, "weights in force") : null,
    trials.some((trial) => trial.today && !trial.now) ? node("span", { class: "mid" }, "in force when it was searched") : null,
    trials.some((trial) => trial.choice && !trial.now) ? node("span", { class: "chosen" }, "the choice") : null,
    node("span", { class: "good" }, "the front"), node("span", { class: "soft" }, "others")) : null,
  searched ? node("p", { class: "note" }, `${short(told.found, 40)}: ${told.verdict}`) : null,
  trials.length ? frontTable(trials, x, y) : null);
}

/** The same in figures, for whoever cannot see or touch the dots. */
function frontTable(trials, x, y) {
  const rows = trials.filter((trial) => trial.best || trial.now || trial.today || trial.choice).sort((a, b) => a.improve - b.improve);
  return node("details", {}, node("summary", {}, `The front in figures (${rows.length})`),
    node("div", { class: "scrolls", role: "region", tabindex: "0", "aria-label": "The front in figures" }, node("table", {},
      node("thead", {}, node("tr", {}, [x[0], y[0], "what it is", "weights"].map((words) => node("th", { scope: "col" }, words)))),
      node("tbody", {}, rows.map((trial) => node("tr", {}, node("td", {}, x[2](trial.improve)), node("td", {}, y[2](trial.keep)),
        node("td", {}, roleOf(trial)), node("td", {}, node("small", {}, weightsOf(trial)))))))));
}

function roleOf(trial) {
  return [trial.now && "in force", trial.today && !trial.now && "in force then", trial.choice && "chosen", trial.best && "on the front"].filter(Boolean).join(", ");
}

/** The two weights that matter most, in words. */
function weightsOf({ weights }) {
  if (!weights) return "";
  return `avoid skips ${short(String(+weights.glance_power.toFixed(2)), 8)}, watch time ${short(String(+weights.watch_power.toFixed(2)), 8)}`;
}

function wordsOf(trial, x, y) {
  return [`${x[2](trial.improve)} ${x[0]}, ${y[2](trial.keep)} ${y[0]}`, weightsOf(trial), roleOf(trial)].filter(Boolean).join("; ");
}
