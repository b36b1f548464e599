// Tabs that are really hidden. playwright tells every page that it is seen; a browser of its own, whose
// pages are left as they are, tells the truth.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { chromium } from "playwright-core";
import { cardNow, heldOf, open, saved, swipe } from "./harness.mjs";

/** Put another tab over the page, then make its window small; tells what the page saw and what is held. */
export async function hides(_, { base, viewer, executable, awayMs }) {
  const folder = mkdtempSync(`${tmpdir()}/hidden-`);
  const own = spawn(executable, ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", `--user-data-dir=${folder}`],
    { stdio: ["ignore", "ignore", "pipe"] });
  const gone = new Promise((done) => own.on("exit", done));
  try {
    const browser = await chromium.connectOverCDP(await addressOf(own), { noDefaults: true });
    const [context] = browser.contexts();
    const { page, problems } = await open(browser, base, { context });
    await page.goto(`${base}/?viewer=${viewer}`);
    await cardNow(page).waitFor();
    await page.bringToFront();
    const { seen, away } = await lookAway(context, page, awayMs);
    await saved(page);
    const held = await heldOf(base, viewer);
    await browser.close();
    return { problems, seen, away, held: held.events };
  } finally {
    own.kill();
    await gone;
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Where a browser listens. */
function addressOf(own) {
  return new Promise((done) => {
    let said = "";
    own.stderr.on("data", (words) => {
      said += words;
      const [, address] = /DevTools listening on (\S+)/.exec(said) ?? [];
      if (address) done(address);
    });
  });
}

/** Look at a card, at another tab, at the card again, and so on with the window made small. */
async function lookAway(context, page, awayMs) {
  await page.evaluate(() => {
    window.turns = [];
    document.addEventListener("visibilitychange", () => window.turns.push([document.visibilityState, performance.now()]));
  });
  const session = await context.newCDPSession(page);
  const { windowId } = await session.send("Browser.getWindowForTarget");
  const resize = (windowState) => session.send("Browser.setWindowBounds", { windowId, bounds: { windowState } });
  let other = null;
  for (const [leave, come] of [
    [async () => { other = await context.newPage(); await other.bringToFront(); }, () => page.bringToFront()],
    [() => resize("minimized"), () => resize("normal")],
  ]) {
    await page.waitForTimeout(700);
    await leave();
    await page.waitForTimeout(awayMs);
    await come();
    await page.waitForTimeout(500);
    await swipe(page);
  }
  await other.close();
  return page.evaluate(() => {
    const { turns, noted } = window;
    const spans = [0, 2].map((at) => turns[at + 1][1] - turns[at][1]);
    return { away: spans, seen: { states: turns.map(([state]) => state), ms: spans.map((span, at) => noted.pressed[at] - noted.shown[at] - span) } };
  });
}
