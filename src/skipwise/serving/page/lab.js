// The lab: each chart answers one question and says it in its title.

import { ask, key } from "/page/api.js";
import { bars, looks, overTime, promises, scatter } from "/page/chart.js";
import { node, percent, put, seconds, short } from "/page/dom.js";
import { askForKey } from "/page/picker.js";

const STAGES = [
  ["request /v1/feed", "a feed"], ["retrieve", "· retrieve"], ["hydrate", "· hydrate"],
  ["filter_out", "· filter"], ["score", "· score"], ["diversify", "· diversify"], ["explore", "· explore"],
  ["wait", "· wait in line"], ["request /v1/events", "events"], ["keep", "· to disk"],
];
const NAMES = {
  glance: "skip", negative: "not for me", effective: "effective", long: "long view",
  finished: "finished", like: "like", follow: "follow", comment: "comment", share: "share", click: "click",
};
const byId = (id) => document.getElementById(id);
const charts = {};

/** A card: one question, one line of answer, one drawing. */
function question(name, title, wide = false) {
  const answer = node("p", { class: "answer" });
  const drawing = node("div", {}, node("p", { class: "empty" }, "Loading…"));
  charts[name] = { answer, drawing };
  return node("section", { class: `question${wide ? " wide" : ""}`, "aria-labelledby": `q-${name}` },
    node("h2", { id: `q-${name}` }, title), answer, drawing);
}

function show(name, answer, ...drawing) {
  put(charts[name].answer, answer);
  put(charts[name].drawing, ...drawing);
}

function nothing(words) {
  return node("p", { class: "empty" }, words);
}

/** Put [before, after] of neighbouring samples through a function; [agoS, value]. */
function changes(figures, of) {
  const { samples } = figures;
  const now = samples.at(-1)?.at_ms ?? 0;
  return samples.slice(1).map((after, at) => [(now - after.at_ms) / 1000, of(samples[at], after, (after.at_ms - samples[at].at_ms) / 1000)]);
}

/** The same of wider steps, where single ones are thin: at least `atLeast` in each. */
function windows(figures, many, value, atLeast) {
  const { samples } = figures;
  const now = samples.at(-1)?.at_ms ?? 0;
  const points = [];
  for (let from = 0, to = 1; to < samples.length; to += 1) {
    if (many(samples[to]) - many(samples[from]) >= atLeast) {
      points.push([(now - samples[to].at_ms) / 1000, value(samples[from], samples[to])]);
      from = to;
    }
  }
  return points;
}

function spanOf(figures) {
  const { samples } = figures;
  return samples.length > 1 ? Math.max(60, (samples.at(-1).at_ms - samples[0].at_ms) / 1000) : 60;
}

/** A quantile of a histogram's difference, between its bounds. */
function quantile(before, after, boundsS, share) {
  const count = after.count - (before?.count ?? 0);
  if (!count) return null;
  const up = after.up_to.map((value, at) => value - (before?.up_to[at] ?? 0));
  const at = up.findIndex((value) => value >= share * count);
  if (at < 0) return boundsS.at(-1);
  const [low, below] = at ? [boundsS[at - 1], up[at - 1]] : [0, 0];
  return low + ((share * count - below) / Math.max(up[at] - below, 1e-9)) * (boundsS[at] - low);
}

function drawSpeed(figures) {
  const span = spanOf(figures);
  const rate = changes(figures, (a, b, s) => (b.requests - a.requests) / s);
  const refused = figures.samples.at(-1).refused;
  show("rate", [node("b", {}, rate.length ? rate.at(-1)[1].toFixed(1) : "–"), ` a second now; ${refused.toLocaleString()} refused for want of time, ${figures.samples.at(-1).failed.toLocaleString()} failed`],
    rate.length ? overTime("Requests a second over the last minutes", [{ points: rate }], span, (value) => value.toLocaleString(), 1) : nothing("Five more seconds."));
  const [first, last] = [figures.samples[0], figures.samples.at(-1)];
  const rows = STAGES.flatMap(([stage, name]) => {
    const after = last.stages[stage];
    if (!after) return [];
    const before = after.count > (first.stages[stage]?.count ?? 0) ? first.stages[stage] : null;
    return [{ name, inner: 1000 * quantile(before, after, figures.bounds_s, 0.5), outer: 1000 * quantile(before, after, figures.bounds_s, 0.99) }];
  });
  const ms = (value) => (value < 10 ? value.toFixed(1) : Math.round(value));
  show("stages", rows.length ? "Median and the slowest of a hundred, ms" : "",
    rows.length ? bars("Milliseconds by stage", rows, (row) => `${ms(row.inner)} / ${ms(row.outer)}`) : nothing("No feed has been asked for yet."),
    rows.length ? node("p", { class: "legend" }, node("span", {}, "median"), node("span", { class: "pale" }, "99 of 100")) : null);
}

function drawPeople(figures) {
  const span = spanOf(figures);
  const last = figures.samples.at(-1);
  const skips = windows(figures, (s) => s.views, (a, b) => (b.glances - a.glances) / (b.views - a.views), 5);
  show("skips", last.views ? [node("b", {}, percent(last.glances / last.views)), ` of ${last.views.toLocaleString()} views since the start`] : "",
    skips.length ? overTime("Share of skips over the last minutes", [{ points: skips }], span, (value) => percent(value), 0.5) : nothing("No views yet. Swipe in the feed, and look again."));
  const watch = windows(figures, (s) => s.watched, (a, b) => (b.watch_s - a.watch_s) / (b.watched - a.watched), 5);
  show("watch", last.watched ? [node("b", {}, seconds(last.watch_s / last.watched)), " a view since the start"] : "",
    watch.length ? overTime("Mean watch time over the last minutes", [{ points: watch }], span, (value) => seconds(value), 5) : nothing("No views yet."));
}

function drawPromises(figures) {
  const rows = figures.calibration.map(({ objective, shown, expected, happened }) => {
    const real = happened / shown;
    const [low, high] = wilson(happened, shown);
    return { name: NAMES[objective] ?? objective, said: expected / shown, real, low, high, n: shown };
  }).sort((a, b) => b.said - a.said);
  const off = rows.filter((row) => row.said < row.low || row.said > row.high).map((row) => row.name);
  show("promises", rows.length ? (off.length ? `Outside the 95 % interval: ${off.join(", ")}` : "Every promise lies within the 95 % interval of what happened.") : "",
    rows.length ? promises("Promised and real shares by objective", rows) : nothing("No served video has been watched yet."),
    rows.length ? node("p", { class: "legend" }, node("span", { class: "hollow" }, "promised"), node("span", {}, "happened, 95 %"), node("span", { class: "soft" }, "right: views")) : null);
}

/** Wilson's interval of a share, 95 %. */
function wilson(happened, shown) {
  const z = 1.96;
  const share = happened / shown;
  const middle = (share + (z * z) / (2 * shown)) / (1 + (z * z) / shown);
  const half = (z * Math.sqrt((share * (1 - share)) / shown + (z * z) / (4 * shown * shown))) / (1 + (z * z) / shown);
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

function drawExperiments(figures) {
  const found = figures.experiments;
  show("experiments", found.length ? "" : "", found.length
    ? node("div", { class: "charts" }, found.map((each) => node("section", {},
      node("h3", {}, `${short(each.experiment, 40)}: ${short(each.treatment, 30)} on ${short(each.metric, 30)}${each.simulated ? " (simulated)" : ""}`),
      each.looks.length ? looks(`Effect on ${each.metric}, with an interval good for every look`, each.looks) : nothing("Too few viewers so far."))))
    : nothing("No experiment has been analysed beside this run. `skipwise experiment analyse ... --out FOLDER` in a folder beside it makes one appear."));
}

async function drawFront() {
  const { trials, viewers } = await ask("GET", "/v1/lab/front");
  show("front", trials.length ? `Predicted for the first ten places of ${viewers} viewers; not measured.` : "",
    trials.length ? scatter("Predicted skips and watch time by score weights", trials.map((trial) => ({
      x: trial.glance, y: trial.watch_s, best: trial.best, now: trial.now,
      words: `avoid skips ${trial.glance_power}, watch time ${trial.watch_power}: ${percent(trial.glance, 1)}, ${seconds(trial.watch_s)}`,
    })), "predicted skips", "predicted watch time", (value) => percent(value), seconds) : nothing("The state holds no viewer of a log to ask for."),
    trials.length ? node("p", { class: "legend" }, node("span", {}, "weights in force"), node("span", { class: "good" }, "nothing skips less and is watched longer"), node("span", { class: "soft" }, "others")) : null);
}

const said = node("p", { class: "note", role: "status" });

async function drawModels(figures) {
  const models = await ask("GET", "/v1/models");
  const pick = node("select", { id: "run", "aria-label": "A run beside this one" },
    figures.runs.map((run) => node("option", { value: run, selected: run === models.current }, short(run, 60))));
  const change = async (body) => {
    said.textContent = "Loading, warming, proving…";
    try {
      await ask("POST", "/v1/models", body);
      said.textContent = "Done.";
    } catch (problem) {
      said.textContent = `Not done: ${problem.message}`;
    }
    await drawModels(figures);
  };
  const row = (role, run, words) => node("tr", {}, node("th", { scope: "row" }, role), node("td", {}, run ? short(run, 80) : "–"), node("td", {}, words));
  show("models", [node("b", {}, short(models.current, 40)), ` answers; version ${models.version} of the line-up`],
    node("div", { class: "models" }, node("table", {},
      node("thead", { class: "unseen" }, node("tr", {}, node("th", { scope: "col" }, "role"), node("th", { scope: "col" }, "run"), node("th", { scope: "col" }, "share"))),
      node("tbody", {}, row("answers", models.current, percent(1 - models.canary_share)),
        row("canary", models.canary, models.canary ? percent(models.canary_share) : ""), row("before", models.previous, ""))),
    node("div", { class: "does" }, pick,
      node("button", { type: "button", onclick: () => change({ action: "swap", run: pick.value }) }, "Swap in"),
      node("button", { type: "button", onclick: () => change({ action: "canary", run: pick.value, share: 0.1 }) }, "Try on 10 %"),
      node("button", { type: "button", disabled: !models.previous && !models.canary, onclick: () => change({ action: "roll_back" }) }, "Roll back")), said));
}

function status(state, words) {
  const line = byId("status");
  line.dataset.state = state;
  line.lastChild.textContent = words;
}

let latest = null;

async function draw() {
  try {
    latest = await ask("GET", "/v1/lab");
    drawSpeed(latest);
    drawPeople(latest);
    drawPromises(latest);
    const problems = Object.values(latest.problems);
    status(problems.length ? "offline" : "live", problems.length ? problems[0] : "live");
    byId("lead").textContent = `${latest.viewers.toLocaleString()} viewers held in ${(latest.bytes / 1e6).toFixed(1)} MB. Figures of this server since it started, the newest twenty minutes over time.`;
  } catch (problem) {
    status("offline", problem.status ? problem.message : "no connection; the figures are old");
  }
}

async function start() {
  let facts;
  try {
    facts = await ask("GET", "/v1/page");
    while (!facts.scopes.includes("admin")) {
      await askForKey(facts, key.get() !== null, "admin");
      facts = await ask("GET", "/v1/page");
    }
  } catch (problem) {
    status("offline", "no connection");
    put(byId("charts"), nothing(`The lab cannot be opened: ${problem.message}. Load the page again.`));
    return;
  }
  put(byId("charts"),
    question("skips", "Do people skip less?"), question("watch", "Do they stay longer?"),
    question("promises", "Does it keep its promises?"), question("rate", "How busy is it?"),
    question("stages", "Where does the time go?"), question("front", "What would other weights promise?"),
    question("models", "Which model answers?", true), question("experiments", "Which variant is better, and since when can one say so?", true));
  await draw();
  if (latest) {
    drawExperiments(latest);
    await Promise.all([drawModels(latest), drawFront()]).catch((problem) => status("offline", problem.message));
  }
  setInterval(() => !document.hidden && draw(), 5000);
}

start();
