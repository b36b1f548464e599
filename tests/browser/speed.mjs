// How fast the page is, by its own clock.
import { cardNow, open, swipe } from "./harness.mjs";

/**
 * Load the page some times, each in a browser that has nothing of it, then swipe; returns ms from the
 * start of the navigation, and from the key, until the card has been drawn, and how often it had learnt.
 */
export async function quick(browser, { base, viewer, loads, swipes }) {
  const firstMs = [];
  const problems = [];
  let nextMs = [];
  let learnt = 0;
  for (let at = 0; at < loads; at += 1) {
    const { context, page, problems: noted } = await open(browser, base);
    await page.goto(`${base}/?viewer=${viewer}-${at}`);
    await drawn(page, 1);
    firstMs.push(await page.evaluate(() => window.noted.drawn[0]));
    if (at === loads - 1) {
      let asked = 0;
      page.on("response", (answer) => { asked += answer.url().endsWith("/v1/feed") ? 1 : 0; });
      for (let card = 0; card < swipes; card += 1) {
        await page.waitForTimeout(700);
        const before = asked;
        await swipe(page);
        learnt += asked > before ? 1 : 0;
        await drawn(page, card + 2);
      }
      nextMs = await page.evaluate(() => window.noted.pressed.map((pressed, card) => window.noted.drawn[card + 1] - pressed));
    }
    problems.push(...noted);
    await context.close();
  }
  return { problems, firstMs, nextMs, learnt };
}

const drawn = (page, cards) => page.waitForFunction((number) => window.noted.drawn.length >= number, cards);

/** Drag through cards with moving scenes; returns the main thread's own time in each frame, ms, and frames a second. */
export async function frames(browser, { base, viewer, swipes }) {
  const { context, page, problems } = await open(browser, base);
  await page.goto(`${base}/?viewer=${viewer}`);
  await cardNow(page).waitFor();
  const session = await context.newCDPSession(page);
  const events = [];
  session.on("Tracing.dataCollected", ({ value }) => events.push(...value));
  const complete = new Promise((done) => session.on("Tracing.tracingComplete", done));
  await session.send("Tracing.start", { transferMode: "ReportEvents", traceConfig: { includedCategories: ["cc"] } });
  const began = performance.now();
  const shown = () => page.evaluate(() => window.noted.shown.length);
  const before = await shown();
  for (let at = 0; at < swipes; at += 1) {
    await page.mouse.move(195, 600);
    await page.mouse.down();
    for (let y = 570; y >= 300; y -= 30) {
      await page.mouse.move(195, y);
      await page.waitForTimeout(10);
    }
    await page.mouse.up();
    await page.waitForTimeout(350);
  }
  const swiped = await shown() - before;
  const tookMs = performance.now() - began;
  await session.send("Tracing.end");
  await complete;
  const frameMs = events.filter((event) => event.name === "ProxyMain::BeginMainFrame" && event.ph === "X").map((event) => event.tdur / 1000);
  const shifted = await page.evaluate(() => window.noted.shifted);
  await context.close();
  return { problems, frameMs, perS: 1000 * frameMs.length / tookMs, swiped, shifted };
}
