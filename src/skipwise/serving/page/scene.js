// A moving picture for a video that has none: its topic gives colour and motif, its id the rest.
//
// Real logs hold no pixels. What is drawn here says of a video only what the log says.

import { hash } from "/page/dom.js";

/** Colours of a topic, by its place among the catalogue's topics. */
export function colours(place) {
  const hue = (18 + place * 137.508) % 360;
  return {
    hue,
    deep: `hsl(${hue} 46% 16%)`,
    base: `hsl(${(hue + 8) % 360} 52% 30%)`,
    bright: `hsl(${(hue + 24) % 360} 78% 62%)`,
    pale: `hsl(${(hue + 40) % 360} 88% 82%)`,
    other: `hsl(${(hue + 190) % 360} 60% 60%)`,
  };
}

/** The picture of one video on one canvas. */
export class Scene {
  constructor(canvas, video, place, word) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.seed = hash(video);
    this.place = place;
    this.word = word;
    this.palette = colours(place + ((this.seed % 9) - 4) / 90);
    this.draw = MOTIFS[place % MOTIFS.length];
    this.atMs = this.seed % 20_000;
  }

  /** Give the canvas as many pixels as it has room for. */
  fit() {
    const scale = Math.min(devicePixelRatio || 1, 2);
    const width = Math.round(this.canvas.clientWidth * scale);
    const height = Math.round(this.canvas.clientHeight * scale);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
  }

  /** Draw the moment so many ms into the scene. */
  paint(ms) {
    const { context, palette } = this;
    const { width, height } = this.canvas;
    if (!width || !height) return;
    const t = (this.atMs + ms) / 1000;
    const sky = context.createLinearGradient(0, 0, width * 0.4, height);
    sky.addColorStop(0, palette.base);
    sky.addColorStop(1, palette.deep);
    context.fillStyle = sky;
    context.fillRect(0, 0, width, height);
    this.#word(t);
    context.save();
    this.draw(context, width, height, t, randoms(this.seed), palette);
    context.restore();
  }

  /** The topic, set as large as the picture is wide. */
  #word(t) {
    const { context, word } = this;
    const { width, height } = this.canvas;
    if (!word) return;
    const text = word.slice(0, 14).toUpperCase();
    context.save();
    context.globalAlpha = 0.2;
    context.fillStyle = this.palette.pale;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const size = Math.min((width * 1.5) / Math.max(text.length, 3), height * 0.3);
    context.font = `900 ${size}px system-ui, sans-serif`;
    context.translate(width / 2, height * 0.3 + Math.sin(t / 3) * height * 0.01);
    context.fillText(text, 0, 0, width * 0.94);
    context.restore();
  }
}

/** Numbers in [0, 1), the same ones for the same seed (mulberry32). */
function randoms(seed) {
  let state = seed || 1;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 4294967296;
  };
}

const TURN = 2 * Math.PI;

function disc(context, x, y, radius, colour, alpha = 1) {
  context.globalAlpha = alpha;
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x, y, Math.max(radius, 0), 0, TURN);
  context.fill();
}

function bouncing(context, w, h, t, random, palette) {
  const floor = h * 0.66;
  for (let at = 0; at < 7; at += 1) {
    const size = w * (0.05 + 0.05 * random());
    const phase = (t * (0.5 + 0.4 * random()) + random()) % 1;
    const x = w * (0.12 + 0.76 * random());
    const y = floor - size - 4 * phase * (1 - phase) * h * (0.16 + 0.2 * random());
    disc(context, x, floor + size * 0.2, size * (0.5 + 0.5 * phase), palette.deep, 0.35);
    const colour = [palette.bright, palette.pale, palette.other][at % 3];
    disc(context, x, y, size, colour);
    disc(context, x - size * 0.62, y - size * 0.8, size * 0.34, colour);  // ears
    disc(context, x + size * 0.62, y - size * 0.8, size * 0.34, colour);
    disc(context, x - size * 0.3, y - size * 0.1, size * 0.11, palette.deep);
    disc(context, x + size * 0.3, y - size * 0.1, size * 0.11, palette.deep);
  }
}

function steam(context, w, h, t, random, palette) {
  const base = h * 0.64;
  context.fillStyle = palette.other;
  context.beginPath();
  context.ellipse(w / 2, base, w * 0.36, h * 0.035, 0, 0, TURN);
  context.fill();
  context.fillStyle = palette.bright;
  context.beginPath();
  context.ellipse(w / 2, base, w * 0.33, h * 0.12, 0, 0, Math.PI);
  context.fill();
  context.lineCap = "round";
  for (let at = 0; at < 6; at += 1) {
    const x = w * (0.26 + at * 0.096);
    const offset = random() * 6;
    context.strokeStyle = palette.pale;
    context.globalAlpha = 0.75;
    context.lineWidth = w * 0.018;
    context.beginPath();
    for (let step = 0; step <= 20; step += 1) {
      const y = base - h * 0.05 - step * h * 0.013;
      const sway = Math.sin(step / 3 + t * 2 + offset) * w * 0.014 * (step / 8);
      if (step) context.lineTo(x + sway, y);
      else context.moveTo(x, y);
    }
    context.stroke();
  }
}

function waves(context, w, h, t, random, palette) {
  disc(context, w * (0.25 + 0.5 * random()), h * 0.24, w * 0.13, palette.pale, 0.95);
  for (let row = 0; row < 6; row += 1) {
    const level = h * (0.4 + row * 0.1);
    const length = w * (0.5 + 0.3 * random());
    context.globalAlpha = 0.55 + row * 0.07;
    context.fillStyle = [palette.bright, palette.other, palette.base][row % 3];
    context.beginPath();
    context.moveTo(0, h);
    for (let x = 0; x <= w + 12; x += w / 40) {
      context.lineTo(x, level + Math.sin((x / length) * TURN + t * (0.5 + row * 0.16) + row) * h * 0.022);
    }
    context.lineTo(w, h);
    context.fill();
  }
}

function orbits(context, w, h, t, random, palette) {
  const x = w / 2;
  const y = h * 0.42;
  for (let at = 0; at < 60; at += 1) {
    disc(context, w * random(), h * random(), 1 + 2 * random(), palette.pale, 0.3 + 0.5 * random());
  }
  disc(context, x, y, w * 0.11, palette.bright);
  for (let ring = 1; ring <= 4; ring += 1) {
    const radius = w * (0.12 + 0.085 * ring);
    const angle = t * (0.9 / ring) + random() * TURN;
    context.globalAlpha = 0.4;
    context.strokeStyle = palette.pale;
    context.lineWidth = Math.max(1, w * 0.003);
    context.beginPath();
    context.ellipse(x, y, radius, radius * 0.62, -0.3, 0, TURN);
    context.stroke();
    const dx = Math.cos(angle) * radius;
    const dy = Math.sin(angle) * radius * 0.62;
    disc(context, x + dx * 0.955 + dy * 0.295, y - dx * 0.295 + dy * 0.955,
      w * (0.018 + 0.018 * random()), ring % 2 ? palette.other : palette.pale);
  }
}

function equaliser(context, w, h, t, random, palette) {
  const bars = 11;
  const room = (w * 0.84) / bars;
  for (let at = 0; at < bars; at += 1) {
    const pace = 1.6 + 2.2 * random();
    const high = h * (0.05 + 0.2 * (0.5 + 0.5 * Math.sin(t * pace + random() * 6)) + 0.07 * random());
    context.globalAlpha = 0.95;
    context.fillStyle = at % 3 ? palette.bright : palette.pale;
    context.beginPath();
    context.roundRect(w * 0.08 + at * room + room * 0.15, h * 0.48 - high, room * 0.7, 2 * high, room * 0.35);
    context.fill();
  }
}

function field(context, w, h, t, random, palette) {
  for (let stripe = 0; stripe < 8; stripe += 1) {
    context.globalAlpha = stripe % 2 ? 0.28 : 0.12;
    context.fillStyle = palette.bright;
    context.fillRect(0, h * (0.36 + stripe * 0.08), w, h * 0.08);
  }
  context.globalAlpha = 0.8;
  context.strokeStyle = palette.pale;
  context.lineWidth = w * 0.008;
  context.strokeRect(w * 0.1, h * 0.4, w * 0.8, h * 0.6);
  context.beginPath();
  context.ellipse(w / 2, h * 0.64, w * 0.18, h * 0.06, 0, 0, TURN);
  context.stroke();
  const along = (t * 0.35 + random()) % 1;
  const x = w * (0.1 + 0.8 * (along < 0.5 ? 2 * along : 2 - 2 * along));
  const bounce = Math.abs(Math.sin(t * 3)) * h * 0.16;
  disc(context, x, h * 0.665, w * 0.05, palette.deep, 0.4);
  disc(context, x, h * 0.63 - bounce, w * 0.065, palette.pale);
  context.globalAlpha = 1;
  context.fillStyle = palette.deep;
  for (let spot = 0; spot < 5; spot += 1) {
    const angle = t * 4 + (spot * TURN) / 5;
    disc(context, x + Math.cos(angle) * w * 0.038, h * 0.63 - bounce + Math.sin(angle) * w * 0.038, w * 0.012, palette.deep);
  }
}

function confetti(context, w, h, t, random, palette) {
  for (let at = 0; at < 70; at += 1) {
    const x = w * random();
    const fall = (random() + t * (0.05 + 0.1 * random())) % 1;
    const size = w * (0.012 + 0.026 * random());
    context.save();
    context.globalAlpha = 0.9;
    context.translate(x + Math.sin(t * 2 + at) * w * 0.02, fall * h * 1.05 - size);
    context.rotate(t * (random() * 4 - 2) + at);
    context.fillStyle = [palette.bright, palette.pale, palette.other][at % 3];
    context.fillRect(-size, -size / 2.4, 2 * size, size / 1.2);
    context.restore();
  }
}

function hills(context, w, h, t, random, palette) {
  disc(context, w * (0.3 + 0.4 * random()), h * (0.26 + 0.02 * Math.sin(t)), w * 0.12, palette.pale, 0.95);
  for (let layer = 0; layer < 4; layer += 1) {
    const shift = t * (6 + layer * 12) * (w / 800) + random() * 900;
    context.globalAlpha = 0.9;
    context.fillStyle = [palette.other, palette.bright, palette.base, palette.deep][layer];
    context.beginPath();
    context.moveTo(0, h);
    for (let x = 0; x <= w + 10; x += w / 36) {
      const far = (x + shift) / w;
      const peak = Math.sin(far * 5 + layer * 2) + 0.5 * Math.sin(far * 11 + layer);
      context.lineTo(x, h * (0.44 + layer * 0.1) - peak * h * 0.045);
    }
    context.lineTo(w, h);
    context.fill();
  }
}

function rays(context, w, h, t, random, palette) {
  const x = w / 2;
  const y = h * 0.42;
  const number = 14 + 2 * Math.floor(random() * 4);
  for (let at = 0; at < number; at += 2) {
    const from = (at * TURN) / number + t * 0.15;
    context.globalAlpha = 0.45;
    context.fillStyle = palette.bright;
    context.beginPath();
    context.moveTo(x, y);
    context.arc(x, y, h, from, from + TURN / number);
    context.fill();
  }
  const beat = 1 + 0.05 * Math.sin(t * 3);
  disc(context, x, y, w * 0.2 * beat, palette.pale);
  disc(context, x, y, w * 0.15 * beat, palette.other);
  disc(context, x, y, w * 0.08 * beat, palette.deep);
}

function ripple(context, w, h, t, random, palette) {
  const columns = 11;
  const gap = w / columns;
  const cx = w * (0.3 + 0.4 * random());
  const cy = h * (0.3 + 0.3 * random());
  for (let row = 0; row * gap < h; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const x = (column + 0.5) * gap;
      const y = (row + 0.5) * gap;
      const far = Math.hypot(x - cx, y - cy) / w;
      const size = gap * (0.1 + 0.3 * (0.5 + 0.5 * Math.sin(far * 12 - t * 2.2)));
      disc(context, x, y, size, (row + column) % 3 ? palette.bright : palette.pale, 0.85);
    }
  }
}

function city(context, w, h, t, random, palette) {
  disc(context, w * 0.76, h * 0.22, w * 0.09, palette.pale, 0.9);
  let x = -w * 0.02;
  for (let house = 0; x < w; house += 1) {
    const wide = w * (0.09 + 0.1 * random());
    const high = h * (0.18 + 0.34 * random());
    context.globalAlpha = 1;
    context.fillStyle = house % 2 ? palette.base : palette.deep;
    context.fillRect(x, h * 0.82 - high, wide, h);
    for (let row = 0; row < 9; row += 1) {
      for (let pane = 0; pane < 3; pane += 1) {
        const lit = Math.sin(t * 0.7 + row * 3 + pane * 7 + house * 11) > 0.1 - random() * 0.4;
        if (!lit || row * h * 0.04 > high - h * 0.05) continue;
        context.globalAlpha = 0.85;
        context.fillStyle = random() > 0.3 ? palette.bright : palette.pale;
        context.fillRect(x + wide * (0.16 + pane * 0.26), h * 0.84 - high + row * h * 0.04, wide * 0.16, h * 0.017);
      }
    }
    x += wide;
  }
}

function ribbons(context, w, h, t, random, palette) {
  context.lineCap = "round";
  for (let band = 0; band < 7; band += 1) {
    const phase = random() * TURN;
    const pace = 0.5 + 0.6 * random();
    context.globalAlpha = 0.8;
    context.lineWidth = w * (0.02 + 0.05 * random());
    context.strokeStyle = [palette.bright, palette.pale, palette.other][band % 3];
    context.beginPath();
    for (let step = 0; step <= 32; step += 1) {
      const y = (h * step) / 32;
      const x = w * (0.14 + band * 0.12) + Math.sin(step / 5 + t * pace + phase) * w * 0.1;
      if (step) context.lineTo(x, y);
      else context.moveTo(x, y);
    }
    context.stroke();
  }
}

function petals(context, w, h, t, random, palette) {
  for (let flower = 0; flower < 5; flower += 1) {
    const x = w * (0.15 + 0.7 * random());
    const y = h * (0.14 + 0.56 * random());
    const size = w * (0.07 + 0.09 * random());
    const number = 5 + Math.floor(random() * 4);
    for (let at = 0; at < number; at += 1) {
      const angle = (at * TURN) / number + t * (flower % 2 ? 0.3 : -0.25);
      disc(context, x + Math.cos(angle) * size * 0.75, y + Math.sin(angle) * size * 0.75, size * 0.5,
        flower % 2 ? palette.bright : palette.pale, 0.9);
    }
    disc(context, x, y, size * 0.45, palette.other);
  }
}

function warp(context, w, h, t, random, palette) {
  const x = w / 2;
  const y = h * 0.42;
  context.lineCap = "round";
  for (let at = 0; at < 90; at += 1) {
    const angle = random() * TURN;
    const far = (random() + t * (0.12 + 0.2 * random())) % 1;
    const near = far * far * h * 0.75;
    context.globalAlpha = far;
    context.strokeStyle = [palette.pale, palette.bright, palette.other][at % 3];
    context.lineWidth = Math.max(1, far * w * 0.012);
    context.beginPath();
    context.moveTo(x + Math.cos(angle) * near, y + Math.sin(angle) * near);
    context.lineTo(x + Math.cos(angle) * near * 1.12, y + Math.sin(angle) * near * 1.12);
    context.stroke();
  }
}

function tiles(context, w, h, t, random, palette) {
  const size = w / 6;
  for (let row = 0; row * size < h * 0.8; row += 1) {
    for (let column = 0; column < 6; column += 1) {
      const turn = Math.floor(t * 0.5 + random() * 4 + row + column) % 4;
      context.save();
      context.globalAlpha = 0.8;
      context.translate((column + 0.5) * size, (row + 0.5) * size);
      context.rotate((turn * TURN) / 4 + Math.min((t * 0.5) % 1, 0.2) * 0.6);
      context.fillStyle = [palette.bright, palette.base, palette.pale, palette.other][(row * 2 + column * 3) % 4];
      context.beginPath();
      context.moveTo(-size * 0.46, -size * 0.46);
      context.arc(-size * 0.46, -size * 0.46, size * 0.92, 0, TURN / 4);
      context.fill();
      context.restore();
    }
  }
}

const MOTIFS = [
  bouncing, orbits, hills, equaliser, rays, warp, field, waves, confetti, ripple, city, ribbons,
  petals, steam, tiles,
];
