// How elements are made: always by text, never by markup, so that a title can be anything.

/** Make an element: node("p", {class: "x"}, "text", child). */
export function node(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Put other children into an element; null is none. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
}

/** Cut a text a person wrote to so many characters, never through one. */
export function short(text, atMost) {
  const characters = Array.from(text.slice(0, 4 * atMost));
  const cut = characters.length > atMost || text.length > 4 * atMost;
  return cut ? `${characters.slice(0, atMost).join("")}…` : text;
}

/** 71300 -> "1:11". */
export function clock(milliseconds) {
  const seconds = Math.floor(milliseconds / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

export function percent(share, digits = 0) {
  return `${(100 * share).toFixed(digits)}\u00a0%`;
}

/** 1, "view" -> "1 view"; 1200 -> "1,200 views". */
export function counted(number, what) {
  return `${number.toLocaleString()} ${what}${number === 1 ? "" : "s"}`;
}

/** 0.834 -> "0.8 s", 12.3 -> "12 s". */
export function seconds(value) {
  return value < 10 ? `${value.toFixed(1)} s` : `${Math.round(value)} s`;
}

/** A number that stays the same for a text. */
export function hash(text) {
  let value = 2166136261;
  for (let at = 0; at < text.length; at += 1) {
    value = Math.imul(value ^ text.charCodeAt(at), 16777619);
  }
  return value >>> 0;
}

/** An id nobody else has; crypto.randomUUID is only there in secure contexts. */
export function freshId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const icons = {
  like: "M12 20.5C5 15 2.5 11.6 2.5 8.2 2.5 5.400 4.600 3.500 7 3.500c2 0 3.800 1.100 5 3.100 1.200-2 3-3.100 5-3.100 2.400 0 4.500 1.900 4.500 4.700 0 3.400-2.500 6.800-9.500 12.300z",
  follow: "M10 11.500a4 4 0 1 0 0-8 4 4 0 0 0 0 8zm-7.500 9c0-4 3.200-6.500 7.500-6.500 1.600 0 3 .3 4.200 1M18.500 13v7M15 16.500h7",
  share: "M13 5.500 21 12l-8 6.500v-4c-5 0-8 1.500-10 4.500.500-6 4-9.500 10-9.500z",
  not: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM6 6l12 12",
  why: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM9.500 9.500a2.500 2.500 0 1 1 3.500 2.300c-.7.3-1 .8-1 1.700M12 16.700v.1",
  up: "M5 15l7-7 7 7",
  down: "M5 9l7 7 7-7",
  close: "M6 6l12 12M18 6 6 18",
  play: "M8 5.500v13l10.500-6.500z",
};

/** One of our few drawings. */
export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" },
    svg("path", { d: icons[name] }));
}
