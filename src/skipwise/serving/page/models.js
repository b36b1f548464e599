// The lab's card of models: which answer, and how another takes over.

import { ask } from "/page/api.js";
import { node, percent, put, short } from "/page/dom.js";
import { cards, changed, fill, forget, show } from "/page/question.js";

const LOADING_AT_MOST_MS = 600_000;  // a model made into machine code takes minutes
const TOLD = 5;  // newest lines
const BIASES = { glance: "skips", effective: "effective views", long: "long views" };  // promised less what came
const said = node("p", { class: "note", role: "status" });
const taken = node("div", { class: "taken" });

let changing = false;
let asking = false;

/** Change which model answers: it is loaded, warmed and proven first, which may take minutes. */
async function change(body, figures) {
  const began = Date.now();
  const { drawing } = cards.models;
  const tell = () => {
    said.textContent = `Loading, warming, proving… ${Math.round((Date.now() - began) / 1000)} s. The one before goes on answering.`;
  };
  changing = true;
  drawing.setAttribute("aria-busy", "true");
  drawing.querySelectorAll("button, select").forEach((each) => each.setAttribute("disabled", ""));
  tell();
  const clock = setInterval(tell, 1000);
  let models = null;
  try {
    models = await ask("POST", "/v1/models", body, { timeoutMs: LOADING_AT_MOST_MS });
    said.textContent = `Done: ${short(models.current, 40)} answers${models.canary ? `, ${short(models.canary, 40)} is tried on ${percent(models.canary_share)}` : ""}.`;
  } catch (problem) {
    said.textContent = problem.status ? `Not done: ${problem.message}` : "No answer: it may be done or not. Above stands which model answers.";
  }
  clearInterval(clock);
  changing = false;
  drawing.removeAttribute("aria-busy");
  forget("models");
  await fill("models", () => drawModels(figures, models));
  if (document.activeElement === document.body) document.getElementById("run")?.focus({ preventScroll: true });  // the button that had the focus is gone
}

/** Draw it, as asked for or as `known`. */
export async function drawModels(figures, known = null) {
  const models = known ?? await ask("GET", "/v1/models");
  const { request_id: _, trial, told, refused, stopped, ...rest } = models;
  if (changing || asking) return;
  put(taken, trial && trialOf(trial), toldOf(told), refused && node("p", { class: "note" }, `Refused, the newest published: ${short(refused, 300)}`),
    Object.entries(stopped).map(([variant, why]) => node("p", { class: "note" }, `Variant ${short(variant, 40)} gets no more viewers: ${short(why, 300)}`)));
  if (!changed("models", { ...rest, runs: figures.runs })) return;  // else what was picked stays
  const before = document.getElementById("run")?.value;
  const picked = figures.runs.includes(before) ? before : models.current;
  const pick = node("select", { id: "run", "aria-label": "A run beside this one" },
    figures.runs.map((run) => node("option", { value: run, selected: run === picked }, short(run, 60))));
  const does = node("div", { class: "does" });
  const swaps = node("button", { type: "button", "aria-describedby": "models-same", onclick: () => asks() }, "Swap in");
  const tries = node("button", { type: "button", "aria-describedby": "models-same", onclick: () => change({ action: "canary", run: pick.value, share: 0.1 }, figures) }, "Try on 10 %");
  const back = node("button", { type: "button", "aria-describedby": "models-none", disabled: !models.previous && !models.canary, onclick: () => change({ action: "roll_back" }, figures) }, "Roll back");
  const same = node("p", { class: "note", id: "models-same" });
  const none = back.disabled && node("p", { class: "note", id: "models-none" }, "Nothing to roll back to: no model answered before this one, and none is on trial.");
  const offer = () => put(does, pick, swaps, tries, back, same, none || null);
  const asks = () => {  // it is for every viewer: one more press
    asking = true;
    const end = (then) => {
      asking = false;
      offer();
      then();
    };
    const no = node("button", { type: "button", onclick: () => end(() => swaps.focus()) }, "No");
    put(does, node("div", { class: "asks", role: "group", "aria-labelledby": "swap-question", onkeydown: (event) => event.key === "Escape" && end(() => swaps.focus()) },
      node("p", { id: "swap-question" }, `Swap in ${short(pick.value, 40)} for every viewer?`),
      node("button", { type: "button", class: "main", onclick: () => end(() => change({ action: "swap", run: pick.value }, figures)) }, "Yes"), no));
    no.focus();
  };
  const allow = () => {  // what answers already need not take over
    swaps.disabled = tries.disabled = pick.value === models.current;
    same.textContent = !swaps.disabled ? "" : figures.runs.length > 1
      ? `${short(models.current, 40)} answers already: pick another run to swap in or to try.` : "No other run lies beside this one, to swap in or to try.";
  };
  pick.addEventListener("change", allow);
  allow();
  offer();
  const row = (role, run, words) => node("tr", {}, node("th", { scope: "row" }, role), node("td", {}, run ? short(run, 80) : "–"), node("td", {}, words));
  show("models", [node("b", {}, short(models.current, 40)), ` answers; version ${models.version} of the line-up`],
    node("div", { class: "models" }, node("table", {},
      node("thead", { class: "unseen" }, node("tr", {}, node("th", { scope: "col" }, "role"), node("th", { scope: "col" }, "run"), node("th", { scope: "col" }, "share"))),
      node("tbody", {}, row("answers", models.current, percent(1 - models.canary_share)),
        row("canary", models.canary, models.canary ? percent(models.canary_share) : ""), row("before", models.previous, ""))),
    does, said, taken));
}

/** The two models of a trial, side by side. */
function trialOf({ since_ms, decision, words, current, canary }) {
  const share = (value) => (value === null || value === undefined ? "–" : percent(value, 1));
  const arm = (role, { run, views, skip_rate, bias }) => node("tr", {}, node("th", { scope: "row" }, `${role}: ${short(run, 40)}`),
    node("td", {}, views.toLocaleString()), node("td", {}, share(skip_rate)),
    Object.keys(BIASES).map((name) => node("td", {}, share(bias[name]))));
  return node("section", { class: "trial" }, node("h3", {}, `On trial since ${when(since_ms)}: ${decision}`), node("p", { class: "note" }, words),
    node("div", { class: "scrolls", role: "region", tabindex: "0", "aria-label": "The trial in figures" }, node("table", {},
      node("thead", {},
        node("tr", {}, node("td", { colspan: 3 }), node("th", { scope: "colgroup", colspan: Object.keys(BIASES).length }, "promised less what came")),
        node("tr", {}, ["model", "views", "skipped", ...Object.values(BIASES)].map((name) => node("th", { scope: "col" }, name)))),
      node("tbody", {}, arm("answers", current), arm("canary", canary)))));
}

/** What was done about published models, newest first. */
function toldOf(told) {
  if (!told.length) return null;
  return node("section", {}, node("h3", {}, "Published models"),
    node("ul", { class: "told" }, told.slice(-TOLD).reverse().map(({ at_ms, what, run, why }) => node("li", { class: "note" }, `${when(at_ms)}: ${what} ${short(run, 40)}; ${short(why, 300)}`))));
}

function when(ms) {
  return `${new Date(ms).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}
