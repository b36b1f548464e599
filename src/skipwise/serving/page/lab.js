// The lab: each chart answers one question and says it in its title.

import { ask } from "/page/api.js";
import { bars, looks, overTime, promises } from "/page/chart.js";
import { counted, node, percent, put, seconds, short } from "/page/dom.js";
import { drawFront } from "/page/front.js";
import { drawModels } from "/page/models.js";
import { cards, changed, failAll, fill, nothing, question, show } from "/page/question.js";
import { outlasting } from "/page/terms.js";
import { LAB, lockedButton, unlocked } from "/page/unlock.js";

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
const THIN = 5;  // views: a share of fewer says nothing
const byId = (id) => document.getElementById(id);

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

function drawRate(figures) {
  const span = spanOf(figures);
  const rate = changes(figures, (a, b, s) => (b.requests - a.requests) / s);
  const refused = figures.samples.at(-1).refused;
  show("rate", [node("b", {}, rate.length ? rate.at(-1)[1].toFixed(1) : "–"), ` a second now; ${refused.toLocaleString()} refused, ${figures.samples.at(-1).failed.toLocaleString()} failed`],
    rate.length ? overTime("Requests a second over the last minutes", [{ points: rate }], span, (value) => value.toLocaleString(), 1) : nothing("Five more seconds."));
}

function drawStages(figures) {
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

function drawSkips(figures) {
  const last = figures.samples.at(-1);
  const skips = windows(figures, (s) => s.views, (a, b) => (b.glances - a.glances) / (b.views - a.views), THIN);
  const learnt = figures.trained_glance_share;
  cards.skips.title.textContent = learnt === null ? "How much is skipped?" : "Do people skip less?";
  const views = counted(last.views, "view");
  show("skips", last.views >= THIN ? [node("b", {}, percent(last.glances / last.views)), ` of ${views} since the start`] : last.views ? `${views} since the start` : "",
    skips.length ? overTime("Share of skips over the last minutes", [{ points: skips }], spanOf(figures), (value) => percent(value), 0.5, learnt) : nothing(`${thin(last.views)} Swipe in the feed, and look again.`),
    learnt === null ? null : node("p", { class: "legend" }, node("span", {}, "skipped here"), node("span", { class: "line-two" }, `${percent(learnt)} in the log the model has learnt from`)));
}

function drawWatch(figures) {
  const last = figures.samples.at(-1);
  const watch = windows(figures, (s) => s.watched, (a, b) => (b.watch_s - a.watch_s) / (b.watched - a.watched), THIN);
  show("watch", last.watched ? [node("b", {}, seconds(last.watch_s / last.watched)), " a view since the start"] : "",
    watch.length ? overTime("Mean watch time over the last minutes", [{ points: watch }], spanOf(figures), (value) => seconds(value), 5) : nothing(thin(last.watched)));
}

function thin(views) {
  return views ? `Fewer than ${THIN} views in the last minutes.` : "No views yet.";
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
    rows.length ? node("p", { class: "legend" }, node("span", { class: "hollow" }, "promised"), node("span", {}, "happened, 95 %"), node("span", { class: "soft" }, "right: views")) : null,
    rows.length && meaning ? node("p", { class: "note" }, `Effective: ${meaning.effective}. Finished: ${meaning.finished}.`) : null);
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
  const clear = found.flatMap((each) => clearOf(each) ?? []);
  const levels = [...new Set(found.map(coverage))].join(", ");
  show("experiments", !found.length ? "" : clear.length ? clear.join(" ") : "Nothing is clear of chance so far.",
  found.length ? node("div", { class: "charts" }, found.map((each) => node("section", { class: "seen" },
    node("h3", {}, `${short(each.experiment, 40)}: ${metricOf(each)}`),
    node("p", { class: "note" }, `${short(each.treatment, 30)} against ${short(each.control, 30)}${each.simulated ? "; simulated viewers" : ""}. ${saidOf(each)}`),
    each.looks.length ? looks(metricOf(each), each.looks, each.days) : nothing("Too few viewers so far."))))
    : nothing("No experiment has been analysed beside this run. ", node("code", {}, "skipwise experiment analyse TEST LOG --out FOLDER"), " with a folder beside it makes one appear."),
  found.length ? node("p", { class: "legend" }, node("span", {}, "effect"), node("span", { class: "pale" }, `${levels} interval, good for every look`)) : null,
  found.length ? node("p", { class: "note" }, "Each interval is at the level written beside it; where an experiment corrects, its metrics share one. The verdict on all of them stands in the report of the analysis.") : null);
}

/** How sure an experiment's intervals are. */
function coverage({ alpha }) {
  const share = 100 * (1 - alpha);
  return `${Number(share.toFixed(1))} %`;
}

function metricOf({ metric }) {
  return METRICS[metric] ?? short(metric.replaceAll("_", " "), 30);
}

/**
 * Which way a metric is clear of chance, and since when; null where it never was. The intervals are
 * good for every look of one metric, so its first clear one may be believed; they are not made wider
 * because several metrics are looked at.
 */
function clearOf(each) {
  const first = each.looks.find(({ low, high }) => low > 0 || high < 0);
  if (!first) return null;
  const up = first.low > 0;
  const { low, high } = each.looks.at(-1);
  const still = up ? low > 0 : high < 0;
  const better = up !== each.fewer_is_better;
  const sides = `${up ? "higher" : "lower"} with ${short(each.treatment, 30)} than with ${short(each.control, 30)}, which is ${better ? "better" : "worse"}`;
  return `${short(each.experiment, 40)}, ${metricOf(each)}: ${sides}; clear of chance (${coverage(each)}, this metric alone) since day ${first.day + 1}${still ? "" : ", no longer in the last look"}.`;
}

/** The last look in words. */
function saidOf({ looks: days }) {
  if (!days.length) return "";
  const { day, effect, low, high } = days.at(-1);
  const signed = (value) => `${value > 0 ? "+" : ""}${percent(value, 1)}`;
  return `After day ${day + 1}: ${signed(effect)} (${signed(low)} to ${signed(high)}).`;
}

function status(state, words) {
  const line = byId("status");
  line.dataset.state = state;
  line.lastChild.textContent = words;
}

const LIVE = {
  rate: drawRate, stages: drawStages, skips: drawSkips, watch: drawWatch, promises: drawPromises, experiments: drawExperiments,
};
let latest = null;
let meaning = null;  // of the labels' words, by the server's settings

async function draw() {
  try {
    const figures = await ask("GET", "/v1/lab");
    latest = figures;
  } catch (problem) {
    if (problem.locked) throw problem;
    status("offline", problem.status ? problem.message : latest ? "no connection; the figures are old" : "no connection");
    if (!latest) failAll(problem);
    return;
  }
  await Promise.all(Object.entries(LIVE).map(([name, drawn]) => fill(name, () => drawn(latest))));
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

/** Whether the lab is open to this tab's key; asks for another where it is not, and says so where none is given. */
async function opened() {
  try {
    const facts = await unlocked(LAB);
    if (facts?.feed) meaning = outlasting(facts.feed);
    if (facts) return true;
  } catch (problem) {
    status("offline", problem.status ? "it cannot be opened" : "no connection");
    instead(problem.status ? `The lab cannot be opened: ${problem.message}` : "No connection to the server.",
      node("button", { type: "button", class: "main", onclick: () => location.reload() }, "Try again"));
    return false;
  }
  const button = lockedButton();
  status("offline", "needs a key");
  instead("A key is needed: the lab opens with one that has the scope admin.", button, node("p", {}, node("a", { href: "/" }, "Back to the feed")));
  button.focus();
  return false;
}

/** Say something in place of the charts. */
function instead(words, ...more) {
  put(byId("charts"), node("div", { class: "empty" }, node("p", { role: "alert" }, words), ...more));
}

async function start() {
  if (!await opened()) return;
  put(byId("charts"),
    question("skips", "How much is skipped?"), question("watch", "How long do they stay?"),
    question("rate", "How busy is it?"), question("promises", "Does it keep its promises?"),
    question("stages", "Where does the time go?"), question("front", "What would other weights promise?"),
    question("models", "Which model answers?", true), question("experiments", "Which variant is better, and since when can one say so?", true));
  for (;;) {
    try {
      await turn();
    } catch (problem) {
      if (!problem.locked) throw problem;
      if (!await opened()) return;  // nothing is asked for with a key that does not open it
      continue;
    }
    await new Promise((done) => setTimeout(done, EVERY_MS));
  }
}

start();
