// What the pages look like in each of their states: pictures, and what axe finds in them.
//
// A state is made once and then looked at in every size and scheme: loading a page takes longer here
// than drawing it anew.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { cardNow, open, VIEWPORTS } from "./harness.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const answers = JSON.parse(readFileSync(new URL("answers.json", import.meta.url), "utf8"));
const STILL = ".scene, .time, .curve .drop, .curve .now, .curve + .note { visibility: hidden }";
/** Each state is seen in both sizes and both schemes, the next one in the other two of the four pairs. */
const WAYS = [[["phone", "light"], ["desk", "dark"]], [["phone", "dark"], ["desk", "light"]]];

/** Answer the API always alike; returns what changes an answer: null leaves a request open, "lost" ends it. */
async function answering(page) {
  const given = new Map(Object.entries(answers).map(([path, json]) => [path, { json }]));
  given.set("/v1/events", { json: { request_id: "r", accepted: 1, duplicates: 0 } });
  await page.route(({ pathname }) => given.has(pathname), (route) => {
    const answer = given.get(new URL(route.request().url()).pathname);
    if (answer === "lost") return route.abort();
    return answer && route.fulfill(answer);
  });
  return (path, answer) => given.set(path, answer);
}

const refusal = (status, error) => ({ status, json: { request_id: "r", error } });
const fault = refusal(500, "a fault of the server; it is logged under request_id.");

/** Wait until the drawer, which a desk opens by itself, has heard from the model. */
async function answered(page) {
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  await page.locator(".why .told[aria-busy='true']").waitFor({ state: "hidden" });
}

/** Take pictures of every state, with answers that are always the same; let axe look at each. */
export async function looks(browser, { base, folder }) {
  // Tools put styles of their own into the page; the policy is held to in all other scenarios.
  const { context, page, problems } = await open(browser, base, { of: { viewport: VIEWPORTS.phone, reducedMotion: "reduce", bypassCSP: true } });
  const give = await answering(page);
  const found = {};
  const wide = [];
  let states = 0;
  const look = async (state, fullPage = false) => {
    for (const [size, colorScheme] of WAYS[states % 2]) {
      const name = `${size}-${colorScheme}-${state}`;
      await page.setViewportSize(VIEWPORTS[size]);
      await page.emulateMedia({ colorScheme });
      await answered(page);
      await page.screenshot({ path: `${folder}/${name}.png`, style: STILL, animations: "disabled", fullPage });
      if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) wide.push(name);
      if (!await page.evaluate(() => "axe" in window)) await page.evaluate(axe);
      found[name] = await page.evaluate(async () => {
        const { violations } = await window.axe.run({ resultTypes: ["violations"], preload: false });
        return violations.map((each) => `${each.id}: ${each.nodes.map((one) => one.target).join(" | ")}`);
      });
    }
    states += 1;
    await page.setViewportSize(VIEWPORTS.phone);
  };
  const again = async (shown) => {
    await page.reload();
    await page.locator(shown).waitFor();
  };
  await feed(page, base, give, look, again);
  await pages(page, base, give, look, again);
  await context.close();
  return { problems: problems.filter((each) => !/status of 500|ERR_FAILED/.test(each)), found, wide };
}

/** The feed's states, from a first visit on. */
async function feed(page, base, give, look, again) {
  const press = (name) => page.getByRole("button", { name, exact: true }).click();
  await page.goto(`${base}/?viewer=new-looks`);
  await cardNow(page).waitFor();
  await page.locator(".guide").waitFor();
  await look("guide");
  await press("Start");
  await page.locator(".guide .chart").waitFor();
  await look("tour");
  await press("Stop");
  await look("feed");
  await page.keyboard.press("w");
  await page.locator(".why .factors").waitFor();
  await page.locator(".weights output", { hasText: /\d/ }).first().waitFor();
  await look("why");
  give("/v1/explain", fault);
  await page.keyboard.press("ArrowDown");
  await page.locator(".why .told [role='alert']").waitFor();
  await look("why-error");
  await page.keyboard.press("Escape");
  await page.locator("#who").click();
  await page.locator(".people button").first().waitFor();
  await look("picker");
  await press("Close");
  give("/v1/viewers", fault);
  await page.locator("#who").click();
  await page.locator(".people .note", { hasText: "cannot be listed" }).waitFor();
  await look("picker-error");
  give("/v1/feed", { json: { request_id: "r", variant: "current", model: "m", score_version: 0, items: [] } });
  await again(".place[data-kind='empty']");
  await look("empty");
  give("/v1/feed", fault);
  await again(".place[data-kind='error']");
  await look("error");
  give("/v1/feed", "lost");
  await again(".place[data-kind='offline']");
  await look("offline");
  give("/v1/feed", null);
  await again(".place[data-kind='loading'] .title");
  await look("loading");
  give("/v1/page", { json: { request_id: "r", keys_needed: true, scopes: [], feed: null } });
  await again("#key");
  await look("key");
}

/** The lab and the API, with a server and without. */
async function pages(page, base, give, look, again) {
  give("/v1/page", { json: answers["/v1/page"] });
  await page.goto(`${base}/lab`);
  await page.locator(".models .does").waitFor();
  await page.locator(".point.now").waitFor();
  await look("lab");
  give("/v1/models", { json: answers.trial });
  await again(".trial");
  await look("lab-trial", true);
  give("/v1/lab", "lost");
  await again("#skips [role='alert']");
  await look("lab-offline");
  await page.goto(`${base}/docs`);
  await page.locator(".request").first().waitFor();
  await look("docs");
  give("/openapi.json", "lost");
  await again(".empty[role='alert']");
  await look("docs-offline");
}
