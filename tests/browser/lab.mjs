// What a person does with the lab.
import { open, VIEWPORTS } from "./harness.mjs";

/** Open the API's description and the lab, and tell what they show; pictures of the lab go to a folder. */
export async function reads(browser, { base, folder }) {
  const told = {};
  for (const [size, viewport] of Object.entries(VIEWPORTS)) {
    const { context, page, problems } = await open(browser, base, { of: { viewport } });
    await page.goto(`${base}/docs`);
    await page.locator(".request").first().waitFor();
    const docs = await page.evaluate(() => ({
      requests: [...document.querySelectorAll(".request h2 code")].map((code) => code.textContent),
      types: document.querySelectorAll("[id^='type-']").length,
      examples: [...document.querySelectorAll(".example")].map((each) => JSON.parse(each.textContent)),
      dead: [...document.querySelectorAll("a[href^='#']")].filter((link) => !document.getElementById(link.hash.slice(1))).map((link) => link.hash),
      wide: document.documentElement.scrollWidth > innerWidth,
    }));
    await page.goto(`${base}/lab`);
    await page.locator(".seen .band").first().waitFor();
    await page.locator("#front .point.now").waitFor();
    await page.locator("#rate svg").waitFor({ timeout: 20_000 });
    const lab = await page.evaluate(() => ({
      titles: [...document.querySelectorAll(".question h2")].map((title) => title.textContent),
      experiments: [...document.querySelectorAll(".seen")].map((each) => ({
        said: each.textContent, days: each.querySelector(".line").getAttribute("d").split("L").length,
      })),
      front: document.querySelectorAll("#front .point.best").length,
      wide: document.documentElement.scrollWidth > innerWidth,
      shifted: window.noted.shifted,
    }));
    const words = (name) => page.locator(`#${name}`).evaluate((card) => ({
      answer: card.querySelector(".answer").textContent, label: card.querySelector("svg")?.getAttribute("aria-label") ?? null, text: card.textContent,
    }));
    lab.cards = { rate: await words("rate"), stages: await words("stages"), promises: await words("promises") };
    await page.screenshot({ path: `${folder}/lab-${size}.png`, fullPage: true });
    told[size] = { problems, docs, lab };
    await context.close();
  }
  return told;
}

/**
 * Swap another model in from the page, where the server is slower to answer than other requests may
 * be; then roll back. Tells what the card said and which model made slates.
 */
export async function swaps(browser, { base, run, slowMs }) {
  const { context, page, problems } = await open(browser, base, { of: { viewport: VIEWPORTS.desk } });
  const waitsMs = [slowMs, 1000];
  await page.route("**/v1/models", async (route) => {
    if (route.request().method() === "POST") await page.waitForTimeout(waitsMs.shift());
    await route.continue();
  });
  await page.goto(`${base}/lab`);
  const card = page.locator("#models");
  const serves = async () => {
    const answer = await fetch(`${base}/v1/feed`, { method: "POST", body: JSON.stringify({ viewer_id: "new-swaps", k: 1 }) });
    return (await answer.json()).model.split("@")[0];
  };
  const state = async () => ({
    answer: await card.locator(".answer").textContent(), said: await card.locator("[role='status']").textContent(), serves: await serves(),
  });
  await card.locator("select").waitFor();
  const told = [await state()];
  const loading = [];
  const focused = () => page.evaluate(() => document.activeElement.textContent);
  const [same, none] = await Promise.all(["same", "none"].map((name) => card.locator(`#models-${name}`).textContent()));
  let asked = null;
  for (const name of ["Swap in", "Roll back"]) {
    if (name === "Swap in") {
      await card.locator("select").selectOption(run);
      await card.getByRole("button", { name }).focus();
      await page.keyboard.press("Enter");
      asked = { words: await card.locator(".asks p").textContent(), focused: await focused() };
      await page.keyboard.press("Enter");  // no
      asked.left = [await focused(), await serves(), await card.locator("select").inputValue()];
      for (const key of ["Enter", "Shift+Tab", "Enter"]) await page.keyboard.press(key);  // yes
    } else await card.getByRole("button", { name }).click();
    await card.locator("[aria-busy='true']").waitFor();
    loading.push({
      said: await card.locator("[role='status']").textContent(), disabled: await card.getByRole("button", { name: "Swap in" }).isDisabled(), serves: await serves(),
    });
    await card.locator("[aria-busy='true']").waitFor({ state: "detached", timeout: slowMs + 30_000 });
    told.push(await state());
  }
  await page.goto(`${base}/?viewer=new-after`);
  await page.locator(".why .subject + .note", { hasText: "Model" }).waitFor();
  const feed = await page.locator(".why .subject + .note").textContent();
  await context.close();
  return { problems, told, loading, feed, same, none, asked };
}

/** Give the lab figures of a server that cannot be drawn, then those that can, then crafted ones. */
export async function mends(browser, { base, samples, experiments }) {
  const { context, page, problems } = await open(browser, base, { of: { viewport: VIEWPORTS.desk } });
  let changed = { calibration: null, experiments: [{ experiment: "broken" }] };
  await page.route("**/v1/lab", async (route) => {
    const figures = await (await route.fetch()).json();
    await route.fulfill({ json: { ...figures, ...changed } });
  });
  await page.goto(`${base}/lab`);
  await page.locator("#experiments [role='alert']").waitFor();
  await page.locator("#rate svg, #rate .empty:not([role])").first().waitFor();
  const words = (name) => page.locator(`#${name}`).textContent();
  const broken = { promises: await words("promises"), experiments: await words("experiments") };
  changed = {};
  await page.locator("#experiments [role='alert']").waitFor({ state: "detached", timeout: 15_000 });
  const mended = { promises: await words("promises"), experiments: await words("experiments") };
  changed = { samples, experiments };
  await page.locator("#experiments .seen").first().waitFor({ timeout: 15_000 });
  const crafted = {
    skips: await words("skips"), rate: await page.locator("#rate .answer").textContent(), answer: await page.locator("#experiments .answer").textContent(),
  };
  await context.close();
  return { problems, broken, mended, crafted };
}

/** Watch a trial from the lab: its figures change at every look, and what is picked stays picked. */
export async function tries(browser, { base, run, trial, told }) {
  const { context, page, problems } = await open(browser, base, { of: { viewport: VIEWPORTS.desk } });
  let looks = 0;
  await page.route("**/v1/models", async (route) => {
    const models = await (await route.fetch()).json();
    looks += 1;
    const canary = { ...trial.canary, views: trial.canary.views + looks };
    await route.fulfill({ json: { ...models, trial: { ...trial, canary }, told } });
  });
  await page.clock.install();
  await page.goto(`${base}/lab`);
  const card = page.locator("#models");
  await card.locator(".trial").waitFor();
  await card.locator("select").selectOption(run);
  const first = await card.locator(".trial tbody").textContent();
  for (let at = 0; at < 9; at += 1) {
    await page.clock.fastForward(5000);  // to the next look
    await page.waitForTimeout(100);
  }
  await page.waitForFunction((text) => document.querySelector("#models .trial tbody").textContent !== text, first);
  const rows = await card.locator(".trial tbody tr").evaluateAll((all) => all.map((row) => [...row.children].map((cell) => cell.textContent)));
  const seen = {
    looks, rows, title: await card.locator(".trial h3").textContent(), picked: await card.locator("select").inputValue(),
    told: await card.locator(".told li").allTextContents(),
  };
  await context.close();
  return { problems, ...seen };
}

/** Open the lab of a server with keys: with none, with two that do not open it, with one that does, which then opens no more. */
export async function unlocks(browser, { base, keys }) {
  const { context, page, problems } = await open(browser, base, { of: { viewport: VIEWPORTS.desk } });
  let asks = 0;
  page.on("request", (request) => { asks += request.url().endsWith("/v1/lab") ? 1 : 0; });
  await page.clock.install();
  await page.goto(`${base}/lab`);
  const field = page.locator("#key");
  await field.waitFor();
  const asked = await page.locator("dialog").textContent();
  await page.keyboard.press("Escape");
  await field.waitFor({ state: "detached" });
  const left = { words: await page.locator("#charts").textContent(), focused: await page.evaluate(() => document.activeElement.textContent) };
  await page.keyboard.press("Enter");
  const refused = [];
  for (const key of ["nobody knows it", keys.viewer]) {
    await field.waitFor();
    await field.fill(key);
    await page.keyboard.press("Enter");
    const alert = page.locator("dialog [role='alert']");
    await alert.filter({ hasText: key === keys.viewer ? "opens" : "know" }).waitFor();
    refused.push({
      words: await alert.textContent(), invalid: await field.getAttribute("aria-invalid"),
      tied: (await field.getAttribute("aria-describedby")).split(" ").includes(await alert.getAttribute("id")),
      kept: await page.evaluate(() => sessionStorage.getItem("skipwise.key")),
    });
  }
  const drawn = await page.locator(".question").count();
  const before = asks;
  await field.fill(keys.admin);
  await page.keyboard.press("Enter");
  await page.locator("#rate svg, #rate .empty").first().waitFor();
  const opened = await page.locator(".question").count();
  await page.evaluate(() => sessionStorage.setItem("skipwise.key", "another"));
  asks = 0;
  await page.clock.fastForward(5000);
  await field.waitFor();
  for (let at = 0; at < 3; at += 1) {
    await page.clock.fastForward(5000);
    await page.waitForTimeout(100);
  }
  const later = asks;
  await context.close();
  return { problems, asked, left, refused, drawn, opened, before, later };
}
