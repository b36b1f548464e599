// What a person does with the page. Each scenario returns what it did and saw; the tests judge.
import { compares, weighs } from "./drawer.mjs";
import * as doing from "./doing.mjs";
import { cardNow, heldOf, open, run, saved, swipe, VIEWPORTS } from "./harness.mjs";
import { hides } from "./hidden.mjs";
import { mends, reads, swaps, tries, unlocks } from "./lab.mjs";
import { looks } from "./looks.mjs";
import { measuresReport } from "./report.mjs";
import { frames, quick } from "./speed.mjs";
import * as troubles from "./troubles.mjs";
import { states, tours } from "./words.mjs";

/** Press keys one right after the other, faster than a hand. */
async function hurry(page, ...keys) {
  const before = await page.evaluate(() => window.noted.shown.length);
  await page.evaluate((each) => {
    for (const key of each) document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  }, keys);
  await page.waitForFunction((number) => window.noted.shown.length >= number, before + 1);
}


/** Swipe through cards: skip one topic, watch another to its end, others for twelve seconds. */
async function learns(browser, { base, viewer, skip, watch, cards }) {
  const { context, page, problems } = await open(browser, base);
  const slates = doing.slatesOf(page);
  await page.clock.install();
  await page.goto(`${base}/?viewer=${viewer}`);
  await cardNow(page).waitFor();
  const videos = [];
  for (let at = 0; at < cards; at += 1) {
    const topics = await cardNow(page).locator(".chips li").allTextContents();
    const [, length] = (await cardNow(page).locator(".time").textContent()).split(" / ");
    const [minutes, seconds] = length.split(":").map(Number);
    videos.push((await cardNow(page).locator(".id").textContent()).replace(" · ", ""));
    const stay = topics.includes(skip) ? 600 : topics.includes(watch) ? 1000 * (60 * minutes + seconds) + 300 : 12_000;
    await page.clock.fastForward(stay);
    await swipe(page);
  }
  await saved(page);
  const noted = await page.evaluate(() => window.noted);
  const watchedMs = videos.map((_, at) => noted.pressed[at] - noted.shown[at]);
  const held = (await heldOf(base, viewer)).num_events;
  await context.close();
  return { problems, held, slates: slates.topics, asked: slates.asked, videos, watchedMs, shownMs: noted.shown };
}

/** Runs in the page: notes each card's time on screen where a reload leaves it, as an eye would. */
function remembering() {
  if (!location.protocol.startsWith("http")) return;
  let on = null;
  const now = () => performance.timeOrigin + performance.now();
  const see = (video) => {
    if (on) localStorage.setItem(`noted.${on.atMs}`, JSON.stringify({ untilMs: now(), ...on }));
    on = video && { video, atMs: now(), viewer: new URL(location.href).searchParams.get("viewer") };
  };
  let last = null;
  new MutationObserver(() => {
    const card = document.querySelector(".card[data-at='0']");
    if (card && card !== last) see(card.querySelector(".id").textContent.replace(" · ", ""));
    last = card ?? last;
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-at"] });
  addEventListener("keydown", () => Object.assign(on ?? {}, { untilMs: now() }), true);
  addEventListener("pagehide", () => see(null));
}

/** Reload in the middle of a view, lose the connection and get it back, and use two tabs. */
async function survives(browser, { base, viewer }) {
  const { context, page, problems } = await open(browser, base);
  await context.addInitScript(remembering);
  const asked = {}, posted = new Set();
  const listen = (tab) => {
    tab.on("request", (request) => {
      if (request.url().endsWith("/v1/events")) request.postDataJSON().events.forEach((row) => posted.add(row.event_id));
    });
    doing.slatesOf(tab, asked);
  };
  listen(page);
  const url = `${base}/?viewer=${viewer}`;
  await page.goto(url);
  await cardNow(page).waitFor();
  await swipe(page);
  await page.waitForTimeout(350);
  await page.reload();  // the second view ends here
  await cardNow(page).waitFor();
  await swipe(page);
  await saved(page);
  const online = problems.length;
  await context.setOffline(true);
  for (let at = 0; at < 3; at += 1) await swipe(page);
  await page.locator(".status[data-state='offline']").waitFor();
  const said = await page.locator("#status").textContent();
  await page.goto("about:blank");  // the tab is gone while nothing can be sent: the seventh view
  await context.setOffline(false);
  const lost = problems.splice(online).filter((each) => !each.includes("ERR_INTERNET_DISCONNECTED"));
  await page.goto(url);
  await cardNow(page).waitFor();
  await saved(page);
  const other = await open(browser, base, { context });
  listen(other.page);
  await other.page.goto(url);
  await cardNow(other.page).waitFor();
  await Promise.all([page, other.page].map(async (tab) => {
    for (let at = 0; at < 3; at += 1) await swipe(tab);
  }));
  await Promise.all([saved(page), saved(other.page)]);
  await page.goto("about:blank");
  await other.page.goto("about:blank");
  const last = await open(browser, base, { context });  // what did not arrive as they went is sent now
  await last.page.goto(`${base}/?viewer=${viewer}-other`);
  await cardNow(last.page).waitFor();
  await saved(last.page);
  const done = await last.page.evaluate(() => Object.keys(localStorage).filter((name) => name.startsWith("noted.")).map((name) => JSON.parse(localStorage.getItem(name))));
  await context.close();
  return { problems: [...problems, ...other.problems, ...last.problems, ...lost], said, asked, posted: [...posted], done: done.filter((each) => each.viewer === viewer).sort((one, two) => one.atMs - two.atMs) };
}

/** Pause, bounce through cards one has seen, like one afterwards. */
async function measures(browser, { base, viewer }) {
  const { context, page, problems } = await open(browser, base);
  await page.clock.install();
  await page.goto(`${base}/?viewer=${viewer}`);
  await cardNow(page).waitFor();
  await page.clock.fastForward(3800);
  await page.keyboard.press(" ");
  await page.clock.fastForward(30_000);
  await page.keyboard.press(" ");
  await page.evaluate(() => document.getElementById("who").click());  // a dialog over the card
  await page.clock.fastForward(30_000);
  await page.keyboard.press("Escape");
  await swipe(page);
  await page.clock.fastForward(5000);
  await swipe(page);
  await page.clock.fastForward(1000);
  await hurry(page, "ArrowUp", "ArrowUp");  // through the second card at once: no view
  await page.keyboard.press("l");  // and a like of the first, whose view was posted already
  await page.clock.fastForward(700);
  await hurry(page, "ArrowDown", "ArrowDown");
  await page.clock.fastForward(2000);
  await page.keyboard.press("n");
  await page.waitForFunction(() => window.noted.shown.length === 8);
  await page.clock.fastForward(3000);
  await page.route("**/v1/events", (route) => route.abort(), { times: 1 });
  await page.evaluate(() => {  // away while nothing arrives, and back out of the browser's cache
    dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
    dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
  });
  await hurry(page, "ArrowDown");  // at once: no second view of the same card
  await saved(page);  // and yet what was left when the page went is posted now
  await page.clock.fastForward(1000);
  await swipe(page);
  await saved(page);
  const held = await heldOf(base, viewer);
  await context.close();
  return { problems, held };
}

/** Reach everything with the keyboard alone. */
async function keyboard(browser, { base, viewer }) {
  const { context, page, problems } = await open(browser, base);
  const edges = {};
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.goto(`${base}/?viewer=${viewer}`);
    await cardNow(page).waitFor();
    for (const [size, viewport] of Object.entries(VIEWPORTS)) {
      await page.setViewportSize(viewport);
      const { x, y, height } = await page.locator("#deck").boundingBox();
      edges[`${size}, ${colorScheme}`] = (await page.screenshot({ clip: { x, y: y + height / 3, width: 8, height: 8 } })).toString("base64");
    }
    await page.setViewportSize(VIEWPORTS.phone);
  }
  const alike = await page.getByRole("button", { name: "Like", exact: true }).count();
  const focused = () => page.evaluate(() => {
    const element = document.activeElement;
    return element.getAttribute("aria-label") || element.textContent.trim() || element.id;
  });
  const visited = [];
  for (let at = 0; at < 14; at += 1) {
    await page.keyboard.press("Tab");
    visited.push(await focused());
  }
  await cardNow(page).locator(".act.like").focus();
  await page.keyboard.press("Enter");
  const liked = await cardNow(page).locator(".act.like").getAttribute("aria-pressed");
  await page.keyboard.press("w");
  await page.locator(".why .factors").waitFor();
  const inDrawer = await page.evaluate(() => document.activeElement.closest("#why") !== null);
  await page.locator("#weight-glance_power").focus();
  const before = await page.locator("#weight-glance_power").inputValue();
  await page.keyboard.press("ArrowRight");
  await page.locator(".weights [role='status']", { hasText: "in force" }).waitFor();
  const after = await page.locator("#weight-glance_power").inputValue();
  await page.keyboard.press("Escape");
  const closed = await page.locator(".why").isHidden();
  const escaped = await focused();
  const said = [];
  for (const key of ["f", "f", " ", " ", "n"]) {
    if (key === "n") await swipe(page, key);
    else await page.keyboard.press(key);
    said.push(await page.locator("#said").textContent());
  }
  await swipe(page, "k");  // back to what is not for them, which they like after all
  await page.keyboard.press("l");
  const pressed = await cardNow(page).locator(".act[aria-pressed='true']").allTextContents();
  await swipe(page, "j");
  await page.locator("#who").focus();
  await page.keyboard.press("Enter");
  await page.locator(".people button").first().waitFor();
  await page.locator(".people button").first().focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction((old) => !document.querySelector("#who").textContent.includes(old), viewer.slice(0, 12));
  await cardNow(page).waitFor();
  const who = await page.locator("#who .words").textContent();
  await saved(page);
  const held = (await heldOf(base, viewer)).events.map((each) => each.feedback);
  const toured = await tour(page, base, focused);
  await context.close();
  return { problems, visited, liked, inDrawer, before, after, closed, who, edges, alike, escaped, said, pressed, held, toured };
}

/** Begin the tour and stop it, and again with Escape; tells what has the focus after each, and that the tour is gone. */
async function tour(page, base, focused) {
  const told = [];
  for (const keys of [["Enter", "Enter"], ["Enter", "Escape"], ["Escape"]]) {
    await page.goto(`${base}/docs`);
    await page.evaluate(() => localStorage.clear());
    await page.goto(`${base}/?viewer=new-tour`);
    await cardNow(page).waitFor();
    await page.locator(".guide button").first().waitFor();
    for (const key of keys) {
      if (key === "Enter") await page.locator(".guide button").first().focus();
      await page.keyboard.press(key);
      told.push([key, await focused(), await page.locator(".guide").isVisible()]);
    }
  }
  return told;
}

/** Show videos whose words try to be more than words, until all words have been titles and authors. */
async function hostile(browser, { base, key, viewer, words, shot }) {
  const { context, page, problems } = await open(browser, base);
  await page.addInitScript((mine) => sessionStorage.setItem("skipwise.key", mine), key);
  await page.goto(`${base}/?viewer=${viewer}`);
  await cardNow(page).waitFor();
  const seen = [];
  const missing = () => words.some((each) => ["title", "author", "subject"].some((name) => !seen.some((card) => card[name].startsWith(each)))
    || !seen.some((card) => card.read.some((name) => name.startsWith(each))));
  for (let at = 0; at < 40 && missing(); at += 1) {
    seen.push(await cardNow(page).evaluate((card) => ({
      title: card.querySelector("h2").textContent,
      author: card.querySelector(".author").textContent,
      elements: card.querySelectorAll("h2 *, .author bdi *").length,
      wide: document.documentElement.scrollWidth > innerWidth,
      tall: card.querySelector(".words").getBoundingClientRect().height,
    })));
    if (at === 0) await page.screenshot({ path: shot });
    await page.keyboard.press("w");
    await page.locator(".why .told:not([aria-busy]) .factors").waitFor();
    Object.assign(seen.at(-1), await page.evaluate(() => ({
      subject: document.querySelector(".why .subject").textContent,
      next: [...document.querySelectorAll(".why .next-up .name")].map((each) => each.textContent),
      read: [...document.querySelectorAll(".why .read .name")].map((each) => each.textContent),
      inside: document.querySelectorAll(".why .subject *, .why .name *").length,
    })));
    await page.keyboard.press("Escape");
    await swipe(page);
    await saved(page);
  }
  const caught = await page.evaluate(() => window.caught ?? null);
  await context.close();
  return { problems, seen, caught };
}

/** Watch as one viewer, then as another; tell whose slates the posted events name. */
async function switches(browser, { base, viewers }) {
  const { context, page, problems } = await open(browser, base, { of: { viewport: { width: 390, height: 844 } } });
  const asked = {}, posted = [];
  page.on("response", async (response) => {
    if (!response.url().endsWith("/v1/feed")) return;
    asked[(await response.json()).request_id] = response.request().postDataJSON().viewer_id;
  });
  page.on("request", (request) => {
    if (request.url().endsWith("/v1/events")) posted.push(...request.postDataJSON().events);
  });
  await page.goto(`${base}/?viewer=${viewers[0]}`);
  for (const viewer of viewers) {
    if (viewer !== viewers[0]) {
      await page.locator("#who").click();
      await page.locator("#viewer-id").fill(viewer);
      await page.keyboard.press("Enter");
    }
    await page.locator("#who", { hasText: viewer }).waitFor();
    await page.waitForTimeout(1500);
    for (let at = 0; at < 2; at += 1) {
      await page.keyboard.press("ArrowDown");
      await page.waitForTimeout(900);
    }
  }
  await context.close();
  return { problems, asked, posted };
}

/** Ask a server with keys for its feed, with a key for the feed and with one for everything. */
async function locked(browser, { base, keys }) {
  const told = {};
  for (const [name, key] of Object.entries(keys)) {
    const { context, page, problems } = await open(browser, base, { of: { viewport: { width: 1440, height: 900 } } });
    await page.goto(`${base}/?viewer=locked-${name}`);
    await page.locator("#key").fill(key);
    await page.keyboard.press("Enter");
    await page.locator(".weights").waitFor();
    const disabled = await page.locator(".weights fieldset").evaluate((set) => set.disabled);
    let next = null;
    if (!disabled) {
      const order = () => page.locator(".next-up li").evaluateAll((rows) => rows.map((row) => row.dataset.video));
      const before = await order();
      await page.locator(".weights output", { hasText: "150" }).waitFor();
      await page.locator("#weight-watch_power").fill("2");
      await page.locator("#weight-glance_power").fill("0");
      await page.locator(".weights [role='status']", { hasText: "in force" }).waitFor();
      next = [before, await order()];
    }
    told[name] = { disabled, next, problems, words: await page.locator(".weights .note").first().textContent() };
    await context.close();
  }
  return told;
}

await run({ ...doing, ...troubles, compares, frames, hides, hostile, keyboard, learns, locked, looks, measures, measuresReport, mends, quick, reads, states, survives, swaps, switches, tours, tries, unlocks, weighs });
