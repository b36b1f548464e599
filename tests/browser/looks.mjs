// What the page looks like in each of its states: pictures, and what axe finds in them.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { cardNow, open, VIEWPORTS } from "./harness.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const STILL = ".scene, .time, .curve .drop, .curve .now, .curve + .note { visibility: hidden }";

/** Take pictures of every state, with answers that are always the same; let axe look at each. */
export async function looks(browser, { base, answers, folder }) {
  const found = {};
  const problems = [];
  for (const [size, viewport] of Object.entries(VIEWPORTS)) {
    for (const colorScheme of ["light", "dark"]) {
      // Tools put styles of their own into the page; the policy is held to in all other scenarios.
      const { context, page, problems: noted } = await open(browser, base, { of: { viewport, colorScheme, reducedMotion: "reduce", bypassCSP: true } });
      const look = async (state) => {
        const name = `${size}-${colorScheme}-${state}`;
        await page.screenshot({ path: `${folder}/${name}.png`, style: STILL, animations: "disabled" });
        await page.evaluate(axe);
        const result = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
        found[name] = result.violations.map((each) => `${each.id}: ${each.nodes.map((one) => one.target).join(" | ")}`);
      };
      const give = (path, json, status = 200) => page.route(`**${path}`, (route) => route.fulfill({ json, status }));
      for (const [path, json] of Object.entries(answers)) await give(path, json);
      await give("/v1/events", { request_id: "r", accepted: 1, duplicates: 0 });
      await page.goto(`${base}/?viewer=new-looks`);
      await cardNow(page).waitFor();
      await page.locator(".guide").waitFor();
      if (colorScheme === "light") await look("guide");
      if (colorScheme === "dark") {
        await page.getByRole("button", { name: "Start" }).click();
        await page.locator(".guide .chart").waitFor();
        await look("tour");
      }
      await page.getByRole("button", { name: colorScheme === "dark" ? "Stop" : "Not now" }).click();
      if (colorScheme === "dark") await look("feed");
      await page.keyboard.press("w");
      await page.locator(".why .factors").waitFor();
      await page.locator(".weights output", { hasText: /\d/ }).first().waitFor();
      await look("why");
      await page.keyboard.press("Escape");
      if (colorScheme === "dark") {
        await page.locator("#who").click();
        await page.locator(".people button").first().waitFor();
        await look("picker");
      } else {
        await give("/v1/feed", { request_id: "r", variant: "current", model: "m", score_version: 0, items: [] });
        await page.reload();
        await page.locator(".place[data-kind='empty']").waitFor();
        await look("empty");
        await give("/v1/feed", { request_id: "r", error: "a fault of the server; it is logged under request_id." }, 500);
        const before = noted.length;
        await page.reload();
        await page.locator(".place[data-kind='error']").waitFor();
        await look("error");
        await page.route("**/v1/feed", (route) => route.abort());
        await page.reload();
        await page.locator(".place[data-kind='offline']").waitFor();
        await look("offline");
        await page.route("**/v1/feed", () => {});  // never answered
        await page.reload();
        await page.locator(".place[data-kind='loading'] .title").waitFor();
        await look("loading");
        await give("/v1/page", { request_id: "r", keys_needed: true, scopes: [], feed: null });
        await page.reload();
        await page.locator("#key").waitFor();
        await look("key");
        noted.splice(before, noted.length, ...noted.slice(before).filter((each) => !/status of 500|ERR_FAILED/.test(each)));
      }
      if ((size === "desk") === (colorScheme === "light")) {
        await page.unroute("**/v1/page");
        await page.goto(`${base}/lab`);
        await page.locator(".models table").waitFor();
        await page.locator(".point.now").waitFor();
        await look("lab");
        const before = noted.length;
        await page.route("**/v1/lab", (route) => route.abort());
        await page.reload();
        await page.locator("#skips [role='alert']").waitFor();
        await look("lab-offline");
        await page.goto(`${base}/docs`);
        await page.locator(".request").first().waitFor();
        await look("docs");
        await page.route("**/openapi.json", (route) => route.abort());
        await page.reload();
        await page.locator(".empty[role='alert']").waitFor();
        await look("docs-offline");
        noted.splice(before, noted.length, ...noted.slice(before).filter((each) => !each.includes("ERR_FAILED")));
      }
      problems.push(...noted);
      await context.close();
    }
  }
  return { problems, found };
}
