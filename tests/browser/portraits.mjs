// Pictures for the README, of a server of a run: node tests/browser/portraits.mjs SKIPWISE RUN FOLDER
// Small files: JPEG, one per page and scheme. `make pictures` takes them of the demo.
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { chromium } from "playwright-core";
import { cardNow, open, saved, swipe } from "./harness.mjs";

const [skipwise, run, folder] = process.argv.slice(2);
const port = 8000 + (process.pid % 1000);
const base = `http://127.0.0.1:${port}`;
const state = `sqlite:${mkdtempSync(`${tmpdir()}/pictures-`)}/state.db`;
const server = spawn(skipwise, ["serve", run, "--state", state, "--port", String(port), "serving.clock=log"], { stdio: "inherit" });
for (let tries = 0; ; tries += 1) {
  if (await fetch(`${base}/health`).then((answer) => answer.ok, () => false)) break;
  if (tries > 600 || server.exitCode !== null) throw new Error("the server does not answer");
  await new Promise((done) => setTimeout(done, 200));
}
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });

/** Skip every video of a topic, stay with another, for some cards. */
async function visit(page, skip, cards) {
  for (let at = 0; at < cards; at += 1) {
    const topics = await cardNow(page).locator(".chips li").allTextContents();
    await page.clock.fastForward(topics.includes(skip) ? 700 : 9000 + 1700 * (at % 5));
    if (!topics.includes(skip) && at % 7 === 3) await page.keyboard.press("l");
    await swipe(page);
  }
  await saved(page);
}

async function desk(colorScheme, name) {
  const { page, context } = await open(browser, base, { of: { viewport: { width: 1280, height: 800 }, colorScheme } });
  await page.clock.install();
  await page.goto(`${base}/?viewer=new-${name}`);
  await cardNow(page).waitFor();
  const skip = await page.locator(".guide b").first().textContent();
  await page.getByRole("button", { name: "Start" }).click();
  await visit(page, skip, 10);
  await page.clock.fastForward(6000);
  await page.waitForTimeout(900);
  await page.screenshot({ path: `${folder}/feed-${colorScheme}.jpg`, type: "jpeg", quality: 80 });
  await context.close();
  return skip;
}

const skip = await desk("light", "light");
await desk("dark", "dark");

const phone = await open(browser, base, { of: { viewport: { width: 390, height: 844 }, colorScheme: "dark", deviceScaleFactor: 1.5 } });
await phone.page.clock.install();
await phone.page.goto(`${base}/?viewer=phone`);
await cardNow(phone.page).waitFor();
await visit(phone.page, skip, 4);
await phone.page.clock.fastForward(4000);
await phone.page.waitForTimeout(600);
await phone.page.screenshot({ path: `${folder}/phone.jpg`, type: "jpeg", quality: 78 });

const lab = await open(browser, base, { of: { viewport: { width: 1280, height: 1000 }, colorScheme: "light" } });
await lab.page.goto(`${base}/lab`);
await lab.page.locator("#front svg, #front .empty").first().waitFor();
await lab.page.waitForTimeout(11_000);  // two samples more, so that there is something over time
await lab.page.screenshot({ path: `${folder}/lab.jpg`, type: "jpeg", quality: 80, fullPage: true });
await browser.close();
server.kill();
