// What a person does with the drawer "Why this?".
import { cardNow, open, saved, swipe, VIEWPORTS } from "./harness.mjs";

/** What the drawer shows, as a person reads it. */
const drawn = (page) => page.evaluate(() => {
  const all = (chosen) => [...document.querySelectorAll(`.why ${chosen}`)];
  const text = (chosen) => all(chosen).map((each) => each.textContent);
  const path = (chosen) => document.querySelector(`.why .curve ${chosen}`)?.getAttribute("d") ?? null;
  const now = document.querySelector(".why .curve .now");
  return {
    card: document.querySelector(".card[data-at='0'] .id").textContent.replace(" · ", ""),
    dot: [Number(now.getAttribute("cx")), Number(now.getAttribute("cy"))],
    drop: path(".drop"),
    cuts: { glance: path(".cut.glance"), effective: path(".cut.effective") },
    words: document.querySelector(".why .curve + .note").textContent,
    did: Object.fromEntries(all(".objectives tbody tr").map((row) => [row.children[0].textContent, row.children[2].textContent])),
    read: all(".read li").map((row) => ({
      name: row.querySelector(".name").textContent, tag: row.querySelector(".tag").textContent, skip: row.classList.contains("skip"),
      colour: getComputedStyle(row).borderInlineStartColor,
    })),
    factors: text(".factors .value").map((each) => Number(each.replace("× ", ""))),
    title: text("h3").find((each) => each.startsWith("The score")), slate: text("h3 + .note").find((each) => each.startsWith("When its slate")),
  };
});

/**
 * Skip a card, watch one through, see one for a second whose quantiles are shorter than a glance,
 * and go back to each. Tells what the drawer showed while each was on, and when it was on again.
 */
export async function compares(browser, { base, viewer }) {
  const { context, page, problems } = await open(browser, base, { of: { viewport: VIEWPORTS.desk } });
  const answers = {};
  let early = false;
  await page.route("**/v1/explain", async (route) => {
    const answer = await (await route.fetch()).json();
    if (early) Object.assign(answer.videos[0].thresholds_s, { effective: 0.4, finished: 0.5 });
    answers[answer.videos[0].video_id] = answer.videos[0];
    await route.fulfill({ json: answer });
  });
  await page.clock.install();
  await page.goto(`${base}/?viewer=${viewer}`);
  const [on, again] = [[], []];
  for (const [ms, press] of [[1200, "ArrowDown"], [400_000, "ArrowDown"], [700, "ArrowUp"]]) {
    await cardNow(page).waitFor();
    await page.locator(".why .told:not([aria-busy]) .factors").waitFor();
    await page.clock.fastForward(ms);
    await page.waitForFunction((s) => parseFloat(document.querySelector(".why .curve + .note").textContent.split("You: ")[1]) >= s, Math.min(ms / 1000, 2) - 0.9);
    on.push(await drawn(page));
    early = on.length === 2;
    if (press === "ArrowDown") await swipe(page);
  }
  early = false;
  await swipe(page, "ArrowUp");
  again.unshift(await drawn(page));
  await swipe(page, "ArrowUp");
  again.unshift(await drawn(page));
  await swipe(page);
  await swipe(page);
  again.push(await drawn(page));
  await saved(page);
  await swipe(page);
  await saved(page);
  await page.locator(".why .told:not([aria-busy]) .factors").waitFor();
  const last = await drawn(page);
  await context.close();
  return { problems, on, again, last, answers };
}

/** Move sliders while the server refuses, is slow, or cannot make a slate. */
export async function weighs(browser, { base, viewer }) {
  const { context, page, problems } = await open(browser, base, { of: { viewport: VIEWPORTS.desk } });
  const sent = [];
  let [inFlight, most] = [0, 0];
  let answer = null;
  await page.route("**/v1/score", async (route) => {
    if (route.request().method() !== "PUT") return route.continue();
    const body = route.request().postDataJSON();
    sent.push(body);
    inFlight += 1;
    most = Math.max(most, inFlight);
    const given = answer;
    answer = null;
    if (given === "slow") await page.waitForTimeout(700);
    if (given === "refuse") await route.fulfill({ status: 422, json: { request_id: "r", error: "a refusal." } });
    else await route.fulfill({ response: await route.fetch() });
    inFlight -= 1;
  });
  await page.goto(`${base}/?viewer=${viewer}`);
  await page.locator(".weights output", { hasText: /\d/ }).first().waitFor();
  const said = page.locator(".weights [role='status']");
  const slider = (name) => page.locator(`#weight-${name}`);
  const first = { watch: await slider("watch_power").inputValue(), likes: await slider("like-scale").inputValue() };
  answer = "refuse";
  await slider("watch_power").fill("1.9");
  await said.filter({ hasText: "Not changed" }).waitFor();
  const refused = { words: await said.textContent(), watch: await slider("watch_power").inputValue() };
  await slider("like-scale").fill("33");
  await said.filter({ hasText: "in force" }).waitFor();
  const after = sent.at(-1);
  answer = "slow";
  await slider("glance_power").fill("5");
  await page.waitForTimeout(200);  // it is on its way
  await slider("glance_power").fill("0.5");
  const shown = [];
  for (let at = 0; at < 15; at += 1) {
    await page.waitForTimeout(100);
    shown.push(await slider("glance_power").inputValue());
  }
  const late = { shown, most, held: (await (await fetch(`${base}/v1/score`)).json()).weights.glance_power };
  const before = problems.length;
  await page.route("**/v1/feed", (route) => route.fulfill({ status: 500, json: { request_id: "r", error: "a fault." } }), { times: 1 });
  await slider("watch_power").fill("1.2");
  await said.filter({ hasText: "a fault" }).waitFor();
  const unranked = { words: await said.textContent(), watch: (await (await fetch(`${base}/v1/score`)).json()).weights.watch_power };
  problems.splice(before, problems.length, ...problems.slice(before).filter((each) => !each.includes("status of 500")));
  await context.close();
  return { problems: problems.filter((each) => !each.includes("status of 422")), first, refused, after, late, unranked };
}
