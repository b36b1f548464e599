// What a person does with the cards, by every way there is; and what comes of it, also later.
import { cardNow, heldOf, open, saved, swipe, VIEWPORTS } from "./harness.mjs";

const shownOf = (page) => page.evaluate(() => window.noted.shown.length);
const videoOf = async (page) => (await cardNow(page).locator(".id").textContent()).replace(" · ", "");

/** Note each slate that is asked for: request id -> its videos, and their topics. */
export function slatesOf(page, asked = {}) {
  const topics = [];
  page.on("response", async (response) => {
    if (!response.url().endsWith("/v1/feed") || !response.ok()) return;
    const slate = await response.json().catch(() => null);  // the page has gone meanwhile
    if (!slate) return;
    asked[slate.request_id] = slate.items.map((item) => item.video_id);
    topics.push(slate.items.map((item) => item.shown.topics ?? []));
  });
  return { asked, topics };
}

/** Hold requests back until they are let go. */
async function gate(page, path) {
  let open_ = null;
  const opened = new Promise((done) => { open_ = done; });
  let waiting = 0;
  await page.route(path, async (route) => {
    waiting += 1;
    await opened;
    await route.continue();
  });
  return { waiting: () => waiting, open: open_ };
}

/** Press keys and roll before the first card, and while the page tries again by itself. */
export async function hastens(browser, { base, viewer }) {
  const { context, page, problems } = await open(browser, base);
  const first = await gate(page, "**/v1/feed");
  await page.goto(`${base}/?viewer=${viewer}`);
  await page.locator(".place[data-kind='loading']").waitFor();
  await page.mouse.move(195, 400);
  await page.keyboard.press("ArrowDown");
  await page.mouse.wheel(0, 120);
  await page.waitForTimeout(200);
  first.open();
  await cardNow(page).waitFor();
  await page.waitForTimeout(1200);
  const cards = [await shownOf(page)];
  await page.unroute("**/v1/feed");
  await page.route("**/v1/feed", (route) => route.abort());
  let last = null;
  while (!await page.locator(".place").count()) {
    last = await videoOf(page);
    await page.waitForTimeout(400);
    const before = await shownOf(page);
    await page.keyboard.press("ArrowDown");
    await page.waitForFunction((number) => window.noted.shown.length > number || document.querySelector(".place"), before);
  }
  await page.keyboard.press("ArrowUp");
  await cardNow(page).waitFor();
  const back = [last, await videoOf(page)];
  await page.waitForTimeout(400);
  await page.keyboard.press("ArrowDown");
  await page.locator(".place").waitFor();
  cards.push(await shownOf(page));
  await page.unroute("**/v1/feed");
  const second = await gate(page, "**/v1/feed");
  for (let tries = 0; !second.waiting() && tries < 100; tries += 1) await page.waitForTimeout(100);
  await page.keyboard.press("ArrowDown");
  await page.waitForTimeout(200);
  second.open();
  await cardNow(page).waitFor();
  await page.waitForTimeout(1000);
  cards.push(await shownOf(page));
  await saved(page);
  await context.close();
  return { problems, cards, back };
}

/** Roll with a trackpad that runs out for a second, twice, and anew before it has run out; click. */
export async function rolls(browser, { base, viewer }) {
  const { context, page, problems } = await open(browser, base, { of: { viewport: VIEWPORTS.desk } });
  await page.goto(`${base}/?viewer=${viewer}`);
  await cardNow(page).waitFor();
  const roll = (...pushes) => page.evaluate(async (each) => {
    const deck = document.getElementById("deck");
    let at = performance.now();
    for (const ms of each) {
      for (let gone = 0; gone < ms; gone += 16) {
        const event = new WheelEvent("wheel", { deltaY: 48 * Math.exp(-gone / 250), bubbles: true, cancelable: true });
        at += 16;
        Object.defineProperty(event, "timeStamp", { value: at });  // as the trackpad sends them, whatever the processor does
        deck.dispatchEvent(event);
        await new Promise((done) => setTimeout(done, 16));
      }
    }
  }, pushes);
  const cards = [];
  const count = async () => {
    await page.waitForTimeout(600);
    cards.push(await shownOf(page));
  };
  await count();
  for (const pushes of [[1000], [1000], [640, 1000]]) {
    await roll(...pushes);
    await count();
  }
  await page.mouse.move(600, 400);
  for (const px of [120, -120]) {
    await page.mouse.wheel(0, px);
    await count();
  }
  const paused = [];
  for (const button of ["right", "left"]) {
    await page.mouse.click(600, 300, { button });
    paused.push(await page.locator("#deck").evaluate((deck) => deck.classList.contains("is-paused")));
  }
  await context.close();
  return { problems, cards, paused };
}

/** Like, follow, share and turn down, and move by buttons, keys and a finger. */
export async function deeds(browser, { base, viewer }) {
  const { context, page, problems } = await open(browser, base, { of: { viewport: VIEWPORTS.desk, hasTouch: true } });
  const slates = slatesOf(page);
  await page.goto(`${base}/?viewer=${viewer}`);
  await cardNow(page).waitFor();
  const finger = await context.newCDPSession(page);
  const touch = (type, y) => finger.send("Input.dispatchTouchEvent", { type, touchPoints: type === "touchEnd" ? [] : [{ x: 500, y }] });
  const drag = async (from, to) => {
    await touch("touchStart", from);
    for (let at = 1; at <= 8; at += 1) await touch("touchMove", from + (to - from) * at / 8);
    await touch("touchEnd", to);
  };
  const moves = {
    next: () => page.getByRole("button", { name: "Next", exact: true }).click(),
    back: () => page.getByRole("button", { name: "Back", exact: true }).click(),
    up: () => drag(600, 300),
    down: () => drag(300, 600),
    none: () => {},
  };
  const act = (name) => cardNow(page).locator(`.act.${name}`).click();
  const done = [];
  for (const [flags, does, move] of [
    [["liked"], () => act("like"), "next"],
    [["followed"], () => act("follow"), "up"],
    [["shared"], () => act("share"), "down"],
    [[], () => {}, "next"],  // the second again
    [[], () => {}, "back"],
    [[], () => {}, "up"],
    [[], () => {}, "next"],
    [["liked", "shared"], async () => { await page.keyboard.press("l"); await page.keyboard.press("s"); }, "next"],
    [["followed"], () => page.keyboard.press("f"), "next"],
    [["disliked"], () => act("not"), "none"],  // it moves on by itself
  ]) {
    await page.waitForTimeout(500);
    const before = await shownOf(page);
    done.push({ video: await videoOf(page), flags, atMs: await page.evaluate(() => performance.timeOrigin + window.noted.shown.at(-1)) });
    await does();
    await moves[move]();
    await page.waitForFunction((number) => window.noted.shown.length > number, before);
    done.at(-1).untilMs = await page.evaluate(() => performance.timeOrigin + window.noted.shown.at(-1));
  }
  await saved(page);
  const held = (await heldOf(base, viewer)).num_events;  // the card that is on comes when the page goes
  await context.close();
  return { problems, held, done, asked: slates.asked };
}

/** Take the tour: skip the topic it names, watch the others. */
export async function guided(browser, { base, viewer }) {
  const { context, page, problems } = await open(browser, base, { of: { viewport: VIEWPORTS.desk } });
  const slates = slatesOf(page);
  await page.clock.install();
  await page.goto(`${base}/?viewer=${viewer}`);
  const topic = await page.locator(".guide b").first().textContent();
  await page.getByRole("button", { name: "Start" }).click();
  const first = slates.topics.at(-1);
  const words = [];
  for (let at = 0; at < 10; at += 1) {
    const topics = await cardNow(page).locator(".chips li").allTextContents();
    await page.clock.fastForward(topics.includes(topic) ? 600 : 9000);
    await swipe(page);
    await page.locator(".guide", { hasText: at < 9 ? `${at + 1} of 10 swipes` : "After ten swipes" }).waitFor();
    words.push(await page.locator(".guide").innerText());
  }
  await saved(page);
  const held = (await heldOf(base, viewer)).num_events;
  const points = await page.locator(".guide .line").getAttribute("d");
  await context.close();
  return { problems, held, topic, first, last: slates.topics.at(-1), slates: slates.topics.length, words, points: points.match(/[ML]/g).length };
}

/** Lose the connection and get it back while the page is there: by its event, or by trying alone. */
export async function returns(browser, { base, viewer, by }) {
  const { context, page, problems } = await open(browser, base, { of: { viewport: VIEWPORTS.desk } });
  if (by === "event") await page.clock.install();
  const slates = slatesOf(page);
  await page.goto(`${base}/?viewer=${viewer}`);
  await page.getByRole("button", { name: "Start" }).click();
  await swipe(page);
  await page.locator(".guide", { hasText: "1 of 10 swipes" }).waitFor();
  const away = (gone) => by === "event" ? context.setOffline(gone)
    : gone ? page.route("**/v1/**", (route) => route.abort()) : page.unroute("**/v1/**");
  await away(true);
  for (let at = 0; at < 3; at += 1) await swipe(page);
  await page.locator(".status[data-state='offline']").waitFor();
  const open_ = await page.locator(".dots .dot:not(.kept)").count();
  const before = slates.topics.length;
  if (by === "event") await page.clock.pauseAt(await page.evaluate(() => Date.now() + 1000));  // no timer runs from here on
  await away(false);
  await saved(page);
  if (by === "event") await page.clock.resume();
  const later = page.locator(".guide", { hasText: "4 of 10 swipes" });
  await later.waitFor();
  await page.locator(".status[data-state='saved']").waitFor();
  const told = {
    open: [open_, await page.locator(".dots .dot:not(.kept)").count()],
    last: await page.locator(".last").textContent(),
    slates: slates.topics.length - before,
    cards: await shownOf(page),
    held: (await heldOf(base, viewer)).num_events,
  };
  await context.close();
  return { problems, ...told };
}

/** Swipe while the server keeps nothing, for another reason than a lost connection. */
export async function busy(browser, { base, viewer, refusals }) {
  const { context, page, problems } = await open(browser, base);
  const said = [];
  for (const [at, [status, error]] of refusals.entries()) {
    await page.goto(`${base}/?viewer=${viewer}-${at}`);
    await cardNow(page).waitFor();
    await page.route("**/v1/events", (route) => route.fulfill({ status, json: { request_id: "r", error } }));
    await swipe(page);
    await page.locator(".status", { hasText: "kept here" }).waitFor();
    said.push(await page.locator("#status").textContent());
    await page.unroute("**/v1/events");
    await saved(page);
  }
  await context.close();
  return { problems, said };
}
