// The lab's few kinds of charts, drawn as SVG without any library.

import { percent, svg } from "/page/dom.js";

const [W, H, LEFT, RIGHT, TOP, BOTTOM] = [400, 190, 44, 10, 10, 24];

/** A frame with rounded ticks; returns {parts, x, y}. */
function frame(most, format, xMost) {
  const top = roundUp(most);
  const x = (value) => LEFT + (value / xMost) * (W - LEFT - RIGHT);
  const y = (value) => TOP + (1 - value / top) * (H - TOP - BOTTOM);
  const parts = [0, 0.5, 1].flatMap((share) => [
    svg("path", { class: "grid", d: `M${LEFT} ${y(share * top)}H${W - RIGHT}` }),
    svg("text", { x: LEFT - 6, y: y(share * top) + 4, "text-anchor": "end" }, format(share * top)),
  ]);
  return { parts, x, y };
}

function roundUp(value, steps = [1, 2, 4, 5, 10]) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return steps.map((step) => step * unit).find((step) => step >= value * 0.999);
}

/**
 * Lines over the last minutes. `series`: [{name, points: [[agoS, value]]}], null breaks a line;
 * `reference` is a value to hold them against, drawn dotted, or null.
 */
export function overTime(label, series, spanS, format, least = 0, reference = null) {
  const all = series.flatMap((each) => each.points.map(([, value]) => value)).filter((value) => value !== null);
  const { parts, x, y } = frame(Math.max(least, ...all, reference ?? 0), format, spanS);
  const ticks = [0, 0.5, 1].map((share) => svg("text", { x: x(share * spanS), y: H - 6, "text-anchor": ["start", "middle", "end"][share * 2] },
    share === 1 ? "now" : ago((1 - share) * spanS)));
  const paths = series.map((each, at) => {
    let d = "";
    let pen = "M";
    for (const [agoS, value] of each.points) {
      if (value === null) pen = "M";
      else {
        d += `${pen}${x(spanS - agoS).toFixed(1)} ${y(value).toFixed(1)}`;
        pen = "L";
      }
    }
    return svg("path", { class: at ? "second" : "line", d });
  });
  const last = series[0].points.findLast(([, value]) => value !== null);
  const dot = last ? [svg("circle", { class: "now", r: 4, cx: x(spanS - last[0]), cy: y(last[1]) })] : [];
  const told = series[0].points.map(([, value]) => value).filter((value) => value !== null);
  const words = told.length ? `: now ${format(told.at(-1))}, between ${format(Math.min(...told))} and ${format(Math.max(...told))}` : "";
  return svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "chart", role: "img", "aria-label": `${label}${words}` }, ...parts, ...ticks,
    ...(reference === null ? [] : [svg("path", { class: "dotted", d: `M${LEFT} ${y(reference)}H${W - RIGHT}` })]), ...paths, ...dot);
}

function ago(seconds) {
  return seconds < 90 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`;
}

/** Two nested bars per row: [{name, inner, outer}], the inner solid. */
export function bars(label, rows, format) {
  const high = 24;
  const left = 92;
  const most = Math.max(...rows.map((row) => row.outer), 1e-9);
  const x = (value) => (value / most) * (W - left - 74);
  return svg("svg", { viewBox: `0 0 ${W} ${rows.length * high + 4}`, class: "chart", role: "img", "aria-label": `${label}: ${rows.map((row) => `${row.name} ${format(row)}`).join("; ")}` },
    ...rows.flatMap((row, at) => {
      const y = at * high + 4;
      return [
        svg("text", { class: "label", x: left - 8, y: y + 12, "text-anchor": "end" }, row.name),
        svg("rect", { class: "bar-two", x: left, y, width: Math.max(1, x(row.outer)), height: 16, rx: 4 }),
        svg("rect", { class: "bar-one", x: left, y: y + 4, width: Math.max(1, x(row.inner)), height: 8, rx: 3 }),
        svg("text", { x: left + x(row.outer) + 6, y: y + 12 }, format(row)),
      ];
    }));
}

/** What was said and what came of it: [{name, said, real, low, high, n}], shares. */
export function promises(label, rows) {
  const high = 26;
  const left = 92;
  const most = roundUp(Math.max(...rows.map((row) => Math.max(row.said, Math.min(row.high, 1))), 0.01));
  const x = (share) => left + (Math.sqrt(share / most)) * (W - left - 62);
  return svg("svg", { viewBox: `0 0 ${W} ${rows.length * high + 22}`, class: "chart", role: "img", "aria-label": `${label}: ${rows.map((row) => `${row.name} ${percent(row.said)} promised, ${percent(row.real)} of ${row.n} happened`).join("; ")}` },
    ...[0, 0.1, 0.3, 0.6, 1].map((part) => part * most).map((share) => svg("path", { class: "grid", d: `M${x(share)} 2V${rows.length * high}` })),
    ...[0, 0.1, 0.3, 0.6, 1].map((part) => part * most).map((share) => svg("text", { x: x(share), y: rows.length * high + 16, "text-anchor": "middle" }, percent(share))),
    ...rows.flatMap((row, at) => {
      const y = at * high + 14;
      return [
        svg("text", { class: "label", x: left - 8, y: y + 4, "text-anchor": "end" }, row.name),
        svg("path", { class: "range", d: `M${x(row.low)} ${y}H${x(Math.min(row.high, most))}` }),
        svg("circle", { class: "real", cx: x(row.real), cy: y, r: 4.5 }),
        svg("circle", { class: "said", cx: x(row.said), cy: y, r: 4.5 }),
        svg("text", { x: W - 2, y: y + 4, "text-anchor": "end" }, row.n.toLocaleString()),
      ];
    }));
}

/** Points on two axes: [{x, y, best, now, today, choice, words}]; the best are joined. */
export function scatter(label, points, xWords, yWords, xFormat, yFormat) {
  const [h, bottom, left, top] = [230, 40, 50, 26];
  const range = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const pad = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
    return [Math.max(low - pad, low < 0 ? -Infinity : 0), high + pad];
  };
  const [xLow, xHigh] = range(points.map((point) => point.x));
  const [yLow, yHigh] = range(points.map((point) => point.y));
  const x = (value) => left + ((value - xLow) / (xHigh - xLow)) * (W - left - RIGHT);
  const y = (value) => top + (1 - (value - yLow) / (yHigh - yLow)) * (h - top - bottom);
  const front = points.filter((point) => point.best).sort((a, b) => a.x - b.x || a.y - b.y);
  const rank = (point) => (point.now ? 4 : point.choice ? 3 : point.today ? 2 : point.best ? 1 : 0);
  const ordered = [...points].sort((a, b) => rank(a) - rank(b));
  const marks = (point) => ["best", "today", "choice", "now"].filter((name) => point[name]).join(" ");
  return svg("svg", { viewBox: `0 0 ${W} ${h}`, class: "chart", role: "img", "aria-label": `${label}${front.map((point) => point.words).slice(0, 3).join(" | ")}` },
    svg("path", { class: "axis", d: `M${left} ${top}V${h - bottom}H${W - RIGHT}` }),
    ...[xLow, xHigh].map((value, at) => svg("text", { x: x(value), y: h - bottom + 15, "text-anchor": at ? "end" : "start" }, xFormat(value))),
    ...[yLow, yHigh].map((value, at) => svg("text", { x: left - 6, y: y(value) + (at ? 10 : 0), "text-anchor": "end" }, yFormat(value))),
    svg("text", { x: (W + left) / 2, y: h - 8, "text-anchor": "middle" }, xWords),
    svg("text", { x: 2, y: 12 }, yWords),
    svg("path", { class: "front", d: front.map((point, at) => `${at ? "L" : "M"}${x(point.x)} ${y(point.y)}`).join("") }),
    ...ordered.map((point) => svg("circle", { class: `point ${marks(point)}`, cx: x(point.x), cy: y(point.y), r: point.now || point.choice ? 6 : point.today ? 5 : point.best ? 3.6 : 2.6 },
      svg("title", {}, point.words))));
}

/** An effect with its interval, day by day; `planned` is how many days there will be. */
export function looks(label, days, planned) {
  const values = days.flatMap((day) => [day.low, day.high, 0]);
  const limit = roundUp(Math.min(Math.max(...values.map(Math.abs)), 3 * Math.max(...days.slice(-1).flatMap((day) => [day.low, day.high]).map(Math.abs), 0.01)), [1, 1.5, 2, 3, 4, 6, 8, 10]);
  const end = Math.max(planned - 1, ...days.map((day) => day.day), 1);
  const x = (day) => LEFT + (day / end) * (W - LEFT - RIGHT);
  const y = (value) => TOP + (0.5 - Math.max(-1, Math.min(1, value / limit)) / 2) * (H - TOP - BOTTOM);
  const upper = days.map((day) => `${x(day.day)} ${y(day.high)}`);
  const lower = [...days].reverse().map((day) => `${x(day.day)} ${y(day.low)}`);
  const format = (value) => `${value > 0 ? "+" : ""}${percent(value, limit < 0.05 ? 1 : 0)}`;
  const last = days.at(-1);
  return svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "chart", role: "img",
    "aria-label": `Effect on ${label} day by day: ${days.map((day) => `day ${day.day + 1} ${format(day.effect)}, ${format(day.low)} to ${format(day.high)}`).join("; ")}` },
  ...[-1, 0, 1].flatMap((side) => [svg("path", { class: side ? "grid" : "dotted", d: `M${LEFT} ${y(side * limit)}H${W - RIGHT}` }),
    svg("text", { x: LEFT - 6, y: y(side * limit) + 4, "text-anchor": "end" }, format(side * limit))]),
  days.length > 1 ? svg("path", { class: "band", d: `M${[...upper, ...lower].join("L")}Z` }) : svg("path", { class: "range", d: `M${x(last.day)} ${y(last.low)}V${y(last.high)}` }),
  svg("path", { class: "line", d: `M${days.map((day) => `${x(day.day)} ${y(day.effect)}`).join("L")}` }),
  svg("circle", { class: "now", r: 4, cx: x(last.day), cy: y(last.effect) }),
  svg("text", { x: LEFT, y: H - 6 }, "day 1"), svg("text", { x: W - RIGHT, y: H - 6, "text-anchor": "end" }, `day ${end + 1}`));
}
