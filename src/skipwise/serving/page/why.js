// "Why this?": the prediction for a card, what it was read from, and what really happened.

import { ask } from "/page/api.js";
import { titleOf } from "/page/card.js";
import { clock, icon, node, percent, put, seconds, short, svg } from "/page/dom.js";
import { outlasting } from "/page/terms.js";
import { Weights } from "/page/weights.js";

const NAMES = {
  glance: "skips it", long: "long view", like: "likes it", follow: "follows the author", share: "shares it",
  comment: "comments", click: "clicks", negative: "“not for me”", watch_s: "watch time",
};
const SKIPS = ["glance", "negative"];

export class Why {
  constructor(element, feed) {
    this.element = element;
    this.feed = feed;
    this.names = { ...NAMES, ...outlasting(feed.facts) };
    this.told = node("div", { class: "told" }, node("p", { class: "note" }, "No card is on yet."));
    this.weights = new Weights(feed);
    this.body = node("div", { class: "body", tabindex: "0", role: "region", "aria-label": "Explanation" }, this.told, this.weights.element);
    this.weights.element.hidden = true;
    this.element.append(
      node("header", {}, node("h2", {}, "Why this?"),
        node("button", { type: "button", class: "quiet closes", "aria-label": "Close “Why this?”", onclick: () => this.close() }, icon("close"))),
      this.body);
    this.wide = matchMedia("(min-width: 1120px)");
    this.wanted = false;
    this.number = 0;
    this.wide.addEventListener("change", () => this.#refresh());
  }

  get open() {
    return this.wanted || this.wide.matches;
  }

  toggle() {
    if (this.wide.matches) {
      this.body.focus();
      return;
    }
    if (this.wanted) this.close();
    else {
      this.wanted = true;
      document.body.classList.add("why-open");
      this.#refresh();
      this.body.focus({ preventScroll: true });
    }
  }

  /** Close it; returns whether it was open over the cards. */
  close() {
    if (!this.wanted) return false;
    this.wanted = false;
    document.body.classList.remove("why-open");
    document.getElementById("deck").focus({ preventScroll: true });
    return true;
  }

  /** Another card is on. */
  card(current) {
    this.current = current;
    this.drawn = this.table = null;  // what is drawn is of the card before
    this.#refresh();
  }

  /** The slate to come has changed. */
  coming(entries) {
    this.weights.coming(entries);
    if (!entries.length) return;
    const { model, score_version } = entries[0];
    const changed = this.newest && (this.newest.model !== model || this.newest.score_version !== score_version);
    this.newest = { model, score_version };
    if (changed) this.#refresh();  // what is told of the card is of the weights or the model before
  }

  acted(current) {
    if (current === this.current) this.#did();
  }

  /** The card has been watched so long. */
  watching(ms) {
    if (!this.drawn || !this.open || this.current.watched) return;
    this.drawn.mark(ms / 1000, false);
    this.#did();
  }

  async #refresh() {
    const { current } = this;
    if (!this.open || !current) return;
    this.number += 1;
    const number = this.number;
    const { explained } = current;
    if (!explained || (this.newest && (explained.model !== this.newest.model || explained.score_version !== this.newest.score_version))) {
      this.told.setAttribute("aria-busy", "true");
      if (!this.told.querySelector(".subject")) put(this.told, node("p", { class: "note" }, "Asking the model…"));
      try {
        const { facts, viewerId } = this.feed;
        const late = current.eventId !== null;
        const told = await ask("POST", "/v1/explain", {
          viewer_id: viewerId,
          video_ids: [current.entry.video_id],
          ...(facts.surface ? { surface: facts.surface } : {}),
        });
        current.explained = { ...told, why: told.videos[0], late };
      } catch (problem) {
        if (number === this.number) {
          this.told.removeAttribute("aria-busy");
          this.#tell(node("p", { class: "note", role: "alert" }, problem.status === 0
            ? "No connection to the server: it is explained when it is back." : `It cannot be explained now: ${problem.message}`),
          node("button", { type: "button", onclick: () => this.#refresh() }, "Try again"));
        }
        return;
      }
    }
    if (number === this.number) this.#draw();
  }

  #draw() {
    const { entry, explained, watched } = this.current;
    const { why } = explained;
    this.told.removeAttribute("aria-busy");
    this.weights.element.hidden = false;
    const scroll = this.body.scrollTop;
    this.drawn = curveOf(why, percent(this.feed.facts.effective_quantile));
    this.table = new Map();
    this.#tell(
      node("p", { class: "subject", dir: "auto" }, short(titleOf(entry.video_id, entry.shown), 90)),
      node("p", { class: "note" }, sourceOf(entry),
        explained.late ? " You had watched it before this was asked: the past it read holds that view." : ""),
      entry.degraded.length
        ? node("p", { class: "note" }, `This slate did without: ${entry.degraded.join("; ")}.`) : null,
      node("section", {}, node("h3", {}, "How long will you stay?"), this.drawn.element, this.drawn.words),
      node("section", {}, node("h3", {}, "What it expects, and what you did"), this.#objectives(why)),
      node("section", {}, node("h3", {}, "What it read of your past"), readingOf(why.reading)),
      node("section", {}, node("h3", {}, `The score now, taken apart: ${why.score.toFixed(2)}`),
        node("p", { class: "note" }, `When its slate was made it was ${entry.score.toFixed(2)}; what was done since counts now.`), factorsOf(why, this.names)));
    this.body.scrollTop = scroll;
    this.drawn.mark(this.#watchedS, watched !== undefined);
    this.#did();
  }

  /** Say something else; what had the focus is gone with what was said, so that the whole has it. */
  #tell(...said) {
    const focused = this.told.contains(document.activeElement);
    put(this.told, ...said);
    if (focused) this.body.focus({ preventScroll: true });
  }

  #objectives(why) {
    const rows = Object.entries(why.predictions).filter(([name]) => name !== "watch_s").map(([name, chance]) => {
      const did = node("td", { class: "did" }, "–");
      this.table.set(name, did);
      const bar = node("span", { class: "fill" });
      bar.style.setProperty("--share", String(chance));
      return node("tr", { class: SKIPS.includes(name) ? "skip" : "" },
        node("th", { scope: "row" }, this.names[name] || name),
        node("td", {}, node("span", { class: "track-line", "aria-hidden": "true" }, bar),
          node("span", { class: "value" }, percent(chance, chance < 0.1 ? 1 : 0))), did);
    });
    const watch = node("td", { class: "did" }, "–");
    this.table.set("watch_s", watch);
    rows.push(node("tr", {}, node("th", { scope: "row" }, NAMES.watch_s),
      node("td", {}, node("span", { class: "value" }, seconds(why.predictions.watch_s))), watch));
    return node("table", { class: "objectives" },
      node("thead", {}, node("tr", {}, node("th", { scope: "col" }, "objective"), node("th", { scope: "col" }, "expected"), node("th", { scope: "col" }, "you"))),
      node("tbody", {}, rows));
  }

  /** Seconds of the last view this card had; of the one that goes on where it had none before. */
  get #watchedS() {
    const { watched } = this.current;
    return (watched ? watched.watch_ms : this.feed.view?.watchMs || 0) / 1000;
  }

  /** Write what has happened, or has so far, into the table. */
  #did() {
    if (!this.table || !this.current?.explained) return;
    const { explained, flags, watched } = this.current;
    const told = cameTo(this.#watchedS, flags, explained.why.thresholds_s, watched !== undefined);
    for (const [name, cell] of this.table) {
      const words = told[name] ?? "–";
      if (cell.textContent !== words) {
        cell.textContent = words;
        cell.dataset.answer = words;
      }
    }
  }
}

/**
 * What a watch of `s` seconds comes to, by objective and by the rules the labels follow: a glance is
 * neither an effective nor a finished view. `over` where it has ended.
 */
function cameTo(s, flags, limit, over) {
  const open = over ? "no" : "…";
  const stayed = s >= limit.glance;
  const passed = (name, yes) => (limit[name] === undefined ? "–" : yes ? "yes" : open);
  const done = (flag) => (flag ? "yes" : over ? "no" : "not yet");
  return {
    glance: stayed ? "no" : over ? "yes" : "…",
    effective: passed("effective", stayed && s > limit.effective),
    long: passed("long", s >= limit.long),
    finished: passed("finished", stayed && s > limit.finished),
    like: done(flags.liked), follow: done(flags.followed), share: done(flags.shared),
    negative: done(flags.disliked), watch_s: seconds(s),
  };
}

function sourceOf(entry) {
  const parts = [`Place ${entry.position + 1} of its slate`];
  if (entry.source) parts.push(entry.source === "model" ? "found by the model" : `found among the ${entry.source} ones`);
  if (entry.policy === "random") parts.push("drawn at random, to explore");
  return `${parts.join("; ")}. Model ${entry.model}.`;
}

const [W, H, LEFT, TOP, BOTTOM] = [320, 168, 36, 14, 26];

/** The watch curve, marked where `left` of the others had gone; returns {element, words, mark(seconds, over)}. */
function curveOf(why, left) {
  const words = node("p", { class: "note" });
  if (!why.curve?.length) {
    return { element: node("p", { class: "note" }, "This model predicts watch time without a curve."), words, mark() {} };
  }
  const end = why.curve_at_s.at(-1);
  const x = (s) => LEFT + Math.sqrt(Math.min(1, s / end)) * (W - LEFT - 8);  // early seconds wide
  const y = (p) => TOP + (1 - p) * (H - TOP - BOTTOM);
  const points = why.curve_at_s.map((s, at) => `${x(s).toFixed(1)} ${y(why.curve[at]).toFixed(1)}`);
  const dot = svg("circle", { class: "now", r: 5 });
  const drop = svg("path", { class: "drop" });
  const marks = [["glance", "skip"], ["effective", `${left} of others left by`]].filter(([name]) => why.thresholds_s[name] < end);
  const element = svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "chart curve", role: "img",
    "aria-label": `Chance of still watching: ${[3, 10, 30].filter((s) => s < end).map((s) => `${percent(at(why, s))} after ${s} s`).join(", ")}` },
  svg("rect", { class: "skip-zone", x: x(0), y: TOP, width: x(why.thresholds_s.glance ?? 0) - x(0), height: H - TOP - BOTTOM }),
  [0, 0.5, 1].map((p) => [svg("path", { class: "grid", d: `M${LEFT} ${y(p)}H${W - 8}` }),
    svg("text", { class: "tick", x: LEFT - 6, y: y(p) + 4, "text-anchor": "end" }, percent(p))]).flat(),
  svg("path", { class: "area", d: `M${x(0)} ${y(0)}L${points.join("L")}L${x(end)} ${y(0)}Z` }),
  svg("path", { class: "line", d: `M${points.join("L")}` }),
  marks.map(([name]) => svg("path", { class: `cut ${name}`, d: `M${x(why.thresholds_s[name])} ${TOP}V${H - BOTTOM}` })),
  marks.map(([name, label], at) => {  // over all lines, and on the side where there is room
    const [across, right] = [x(why.thresholds_s[name]), x(why.thresholds_s[name]) > W / 2];
    return svg("text", { class: `tick ${name}`, x: across + (right ? -4 : 4), y: TOP + 10 + 13 * at, "text-anchor": right ? "end" : "start" }, `${label} ${seconds(why.thresholds_s[name])}`);
  }),
  ticksUpTo(end).map((s) => svg("text", { class: "tick", x: x(s), y: H - 8, "text-anchor": "middle" }, s ? clock(1000 * s) : "0")),
  drop, dot);
  const mark = (s, over) => {
    const chance = at(why, s);
    dot.setAttribute("cx", x(s));
    dot.setAttribute("cy", y(chance));
    drop.setAttribute("d", `M${x(s)} ${y(chance)}V${y(0)}`);
    const text = `${over ? "You stayed" : "You:"} ${seconds(s)}. It gave ${percent(chance)} to staying longer than that.`;
    if (words.textContent !== text) words.textContent = text;
  };
  return { element, words, mark };
}

/** Round seconds that stand apart on the axis. */
function ticksUpTo(end) {
  const all = [0, 5, 15, 30, 60, 120, 180, 300].filter((s) => s <= end);
  return all.filter((s, at) => at === all.length - 1 || Math.sqrt(all[at + 1] / end) - Math.sqrt(s / end) > 0.13);
}

/** The curve's value between its points. */
function at(why, s) {
  const { curve_at_s: on, curve } = why;
  const after = on.findIndex((each) => each >= s);
  if (after <= 0) return after === 0 ? curve[0] : curve.at(-1);
  const share = (s - on[after - 1]) / (on[after] - on[after - 1]);
  return curve[after - 1] + share * (curve[after] - curve[after - 1]);
}

function readingOf(reading) {
  if (!reading.num_events) {
    return node("p", { class: "note" }, "Nothing: you have no past yet. It goes by what others did.");
  }
  const skipped = ["glance", "negative"].reduce((sum, name) => sum + (reading.by_feedback[name]?.[2] || 0), 0);
  const many = ["glance", "negative"].reduce((sum, name) => sum + (reading.by_feedback[name]?.[0] || 0), 0);
  const most = Math.max(...reading.events.map((each) => Math.max(each.as_watched, each.as_skipped)), 1e-9);
  const bar = (share, kind) => {
    const fill = node("span", { class: `fill ${kind}` });
    fill.style.setProperty("--share", String(share / most));
    return node("span", { class: "track-line" }, fill);
  };
  const item = (each) => node("li", { class: SKIPS.includes(each.feedback) ? "skip" : "" },
    node("span", { class: "name", dir: "auto" }, short(titleOf(each.video_id, each.shown), 40)),
    node("span", { class: "tag" }, `${{ glance: "skipped", negative: "not for me" }[each.feedback] || each.feedback}${each.watch_s === null ? "" : ` ${seconds(each.watch_s)}`}`),
    node("span", { class: "two", role: "img", "aria-label": `attention ${percent(each.as_watched)} supposing it watched, ${percent(each.as_skipped)} supposing it skipped` },
      bar(each.as_watched, "good"), bar(each.as_skipped, "bad")));
  return node("div", {},
    node("p", { class: "note" }, `Of ${reading.num_events} ${reading.num_events === 1 ? "view" : "views"}, ${many} ${many === 1 ? "was a skip" : "were skips"}; when it asks whether you will skip this one, ${percent(skipped)} of its attention is on them and ${percent(reading.nothing_as_skipped)} on none. Upper bar: supposing you stay; lower: supposing you skip.`),
    node("ol", { class: "read" }, reading.events.slice(0, 6).map(item)),
    reading.events.length > 6 ? node("details", {}, node("summary", {}, `${reading.events.length - 6} more`),
      node("ol", { class: "read" }, reading.events.slice(6).map(item))) : null);
}

function factorsOf(why, names) {
  const most = Math.max(...why.factors.map((each) => Math.abs(Math.log(Math.max(each.factor, 1e-9)))), 1e-9);
  return node("table", { class: "factors" },
    node("thead", { class: "unseen" }, node("tr", {}, node("th", { scope: "col" }, "term"), node("th", { scope: "col" }, "pull"), node("th", { scope: "col" }, "factor"))),
    node("tbody", {}, why.factors.map((each) => {
      const pull = Math.log(Math.max(each.factor, 1e-9)) / most;
      const bar = node("span", { class: `fill ${pull < 0 ? "bad" : "good"}` });
      bar.style.setProperty("--pull", String(Math.abs(pull)));
      return node("tr", {}, node("th", { scope: "row" }, names[each.name] || each.name),
        node("td", {}, node("span", { class: "pull-line", "aria-hidden": "true" }, bar)),
        node("td", { class: "value" }, `× ${each.factor.toFixed(each.factor < 0.1 ? 3 : 2)}`));
    })));
}
