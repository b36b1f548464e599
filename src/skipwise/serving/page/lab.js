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
const METRICS = {
  watch_per_viewer: "watch time per viewer", views_per_viewer: "views per viewer", watch_per_view: "watch time per view",
  glance_rate: "skips per view", effective_rate: "effective views", long_rate: "long views", finished_rate: "finished views",
  like_rate: "likes", positives_rate: "likes, follows, shares", negatives_rate: "“not for me”",
  sessions_per_viewer: "sessions per viewer", active_days_per_viewer: "active days per viewer", return_rate: "viewers who return",
};
const EVERY_MS = 5000;
const RARE = 6;
const byId = (id) => document.getElementById(id);
const charts = {};
const held = new Map();

/** Whether something is not as it was drawn last; a card that stays as it is keeps its focus. */
function changed(name, value) {
  const text = JSON.stringify(value);
  if (held.get(name) === text) return false;
  held.set(name, text);
  return true;
}

/** A card: one question, one line of answer, one drawing. */
function question(name, title, wide = false) {
  const answer = node("p", { class: "answer" });
  const drawing = node("div", {}, node("p", { class: "empty" }, "Loading…"));
  const heading = node("h2", { id: `q-${name}` }, title);
  charts[name] = { answer, drawing, title: heading };
  return node("section", { class: `question${wide ? " wide" : ""}`, id: name, "aria-labelledby": heading.id }, heading, answer, drawing);
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
    skips.length ? overTime("Share of skips over the last minutes", [{ points: skips }], span, (value) => percent(value), 0.5) : nothing(last.views ? "None in the last minutes. Swipe in the feed, and look again." : "No views yet. Swipe in the feed, and look again."));
  const watch = windows(figures, (s) => s.watched, (a, b) => (b.watch_s - a.watch_s) / (b.watched - a.watched), 5);
  show("watch", last.watched ? [node("b", {}, seconds(last.watch_s / last.watched)), " a view since the start"] : "",
    watch.length ? overTime("Mean watch time over the last minutes", [{ points: watch }], span, (value) => seconds(value), 5) : nothing(last.watched ? "None in the last minutes." : "No views yet."));
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

function drawExperiments({ experiments: found }) {
  if (!changed("experiments", found)) return;
  const clear = found.filter((each) => each.looks.length && (each.looks.at(-1).low > 0 || each.looks.at(-1).high < 0));
  show("experiments", !found.length ? ""
    : clear.length ? `Clear of chance so far: ${clear.map((each) => `${short(each.treatment, 30)} on ${metricOf(each)}`).join(", ")}.`
      : "Nothing is clear of chance so far.",
  found.length ? node("div", { class: "charts" }, found.map((each) => node("section", { class: "seen" },
    node("h3", {}, `${short(each.experiment, 40)}: ${metricOf(each)}`),
    node("p", { class: "note" }, `${short(each.treatment, 30)} against ${short(each.control, 30)}${each.simulated ? "; simulated viewers" : ""}. ${saidOf(each)}`),
    each.looks.length ? looks(metricOf(each), each.looks, each.days) : nothing("Too few viewers so far."))))
    : nothing("No experiment has been analysed beside this run. `skipwise experiment analyse ... --out FOLDER` in a folder beside it makes one appear."),
  found.length ? node("p", { class: "legend" }, node("span", {}, "effect"), node("span", { class: "pale" }, "95 % interval, good for every look")) : null);
}

function metricOf({ metric }) {
  return METRICS[metric] ?? short(metric.replaceAll("_", " "), 30);
}

/** The last look in words. */
function saidOf({ looks: days }) {
  if (!days.length) return "";
  const { day, effect, low, high } = days.at(-1);
  const signed = (value) => `${value > 0 ? "+" : ""}${percent(value, 1)}`;
  return `After day ${day + 1}: ${signed(effect)} (${signed(low)} to ${signed(high)}).`;
}

const OUTCOMES = {  // what a trade may name: words, what is better, and how it is written
  glance: ["skips", "fewer", (value) => percent(value, 1)],
  watch_s: ["watch time", "more", seconds],
  effective: ["effective views", "more", (value) => percent(value, 1)],
  negative: ["“not for me”", "fewer", (value) => percent(value, 2)],
};

async function drawFront() {
  const told = await ask("GET", "/v1/lab/front");
  const { request_id: _, ...rest } = told;
  if (!changed("front", rest)) return;
  const { trials } = told;
  const searched = told.source === "searched";
  charts.front.title.textContent = searched ? "What can be had for what?" : "What would other weights promise?";
  const [x, y] = [OUTCOMES[told.improve], OUTCOMES[told.keep]];
  const known = trials.some((trial) => trial.now);
  show("front", !trials.length ? "" : searched
    ? `Real outcomes of the first ${told.at} places of ${told.slates.toLocaleString()} slates that were shown, ordered anew.${known ? "" : " The weights in force now were not tried."}`
    : `Predicted for the first ${told.at} places of ${told.slates} viewers, not measured: \`skipwise tune\` in a folder beside the run measures it.`,
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

const said = node("p", { class: "note", role: "status" });

async function drawModels(figures) {
  const models = await ask("GET", "/v1/models");
  const { request_id: _, ...rest } = models;
  if (!changed("models", { ...rest, runs: figures.runs })) return;
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

/** Draw a card from its own request; where that fails, the card says so and is tried again. */
async function fill(name, drawn) {
  try {
    await drawn();
  } catch (problem) {
    if (!(problem.status >= 0)) console.error(problem);
    if (!held.has(name)) show(name, "", failed(problem));
  }
}

function failed(problem) {
  return node("p", { class: "empty", role: "alert" }, problem.status === 0
    ? "No connection to the server; it is tried again." : `It cannot be drawn: ${problem.message}`);
}

let latest = null;

async function draw() {
  try {
    const figures = await ask("GET", "/v1/lab");
    latest = figures;
  } catch (problem) {
    status("offline", problem.status ? problem.message : latest ? "no connection; the figures are old" : "no connection");
    if (!latest) Object.keys(charts).forEach((name) => show(name, "", failed(problem)));
    return;
  }
  drawSpeed(latest);
  drawPeople(latest);
  drawPromises(latest);
  drawExperiments(latest);
  const problems = Object.values(latest.problems);
  status(problems.length ? "offline" : "live", problems.length ? problems[0] : "live");
  byId("lead").textContent = `${latest.viewers.toLocaleString()} viewers held in ${(latest.bytes / 1e6).toFixed(1)} MB. Figures of this server since it started, the newest twenty minutes over time.`;
}

let turns = 0;

/** Everything live every few seconds; what asks the model or the disk for more, now and then. */
async function turn() {
  if (document.hidden && latest) return;
  await draw();
  if (latest && turns % RARE === 0) await Promise.all([fill("models", () => drawModels(latest)), fill("front", drawFront)]);
  turns += latest ? 1 : 0;
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
    status("offline", problem.status ? "it cannot be opened" : "no connection");
    put(byId("charts"), node("div", { class: "empty", role: "alert" },
      node("p", {}, problem.status ? `The lab cannot be opened: ${problem.message}` : "No connection to the server."),
      node("button", { type: "button", class: "main", onclick: () => location.reload() }, "Try again")));
    return;
  }
  put(byId("charts"),
    question("skips", "Do people skip less?"), question("watch", "Do they stay longer?"),
    question("promises", "Does it keep its promises?"), question("rate", "How busy is it?"),
    question("stages", "Where does the time go?"), question("front", "What would other weights promise?"),
    question("models", "Which model answers?", true), question("experiments", "Which variant is better, and since when can one say so?", true));
  for (;;) {
    await turn();
    await new Promise((done) => setTimeout(done, EVERY_MS));
  }
}

start();
