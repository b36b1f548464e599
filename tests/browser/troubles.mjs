// What a person does while something goes wrong: the server, the key, the tab.
import { cardNow, heldOf, open, saved, swipe, VIEWPORTS } from "./harness.mjs";

/** Swipe while the server refuses to make slates, until there are no cards left, then try again. */
export async function fails(browser, { base, viewer }) {
  const { context, page, problems } = await open(browser, base);
  await page.goto(`${base}/?viewer=${viewer}`);
  await cardNow(page).waitFor();
  await page.route("**/v1/feed", (route) => route.fulfill({ status: 422, json: { request_id: "r", error: "not as it must be." } }));
  await swipe(page);
  await page.locator(".status", { hasText: "no new slate" }).waitFor();
  const later = { status: await page.locator("#status").textContent(), covered: await page.locator(".place").count(), card: await cardNow(page).isVisible() };
  let swiped = 1;
  for (; swiped < 30; swiped += 1) {
    const before = await page.evaluate(() => window.noted.shown.length);
    await page.keyboard.press("ArrowDown");
    await page.waitForFunction((number) => window.noted.shown.length > number || document.querySelector(".place"), before);
    if (await page.locator(".place").count()) break;
  }
  const place = await page.locator(".place").textContent();
  await page.unroute("**/v1/feed");
  await page.getByRole("button", { name: "Try again" }).click();
  await cardNow(page).waitFor();
  await page.locator(".status[data-state='saved']").waitFor();
  await saved(page);
  const held = await heldOf(base, viewer);
  await context.close();
  return { problems, later, swiped, place, held };
}

/** Lose the key in the middle of a visit: the next event is refused until there is one again. */
export async function rekeys(browser, { base, key, viewer }) {
  const { context, page, problems } = await open(browser, base);
  await page.goto(`${base}/?viewer=${viewer}`);
  const give = async () => {
    await page.locator("#key").fill(key);
    await page.keyboard.press("Enter");
    await page.locator("#key").waitFor({ state: "detached" });
  };
  await page.locator("#key").waitFor();
  await give();
  await cardNow(page).waitFor();
  await page.evaluate(() => sessionStorage.setItem("skipwise.key", "another"));
  await swipe(page);
  await page.locator("#key").waitFor();
  const asked = { status: await page.locator("#status").textContent(), covered: await page.locator(".place").count() };
  await page.keyboard.press("Escape");  // not now
  await page.locator("#key").waitFor({ state: "detached" });
  await swipe(page);  // and it asks again
  await page.locator("#key").waitFor();
  await page.waitForTimeout(2000);  // nobody watches while a key is looked for
  await give();
  await saved(page);
  await page.waitForTimeout(800);
  await swipe(page);
  await saved(page);
  const held = await (await fetch(`${base}/v1/viewers/${viewer}`, { headers: { authorization: `Bearer ${key}` } })).json();
  await context.close();
  return { problems, asked, held };
}

/** Change a weight while an explanation is open, after the weights could not be read at first. */
export async function reweighs(browser, { base, viewer }) {
  const { context, page, problems } = await open(browser, base, { of: { viewport: VIEWPORTS.desk } });
  await page.route("**/v1/score", (route) => route.abort(), { times: 1 });
  await page.goto(`${base}/?viewer=${viewer}`);
  await page.locator(".why .factors").waitFor();
  await page.locator(".weights [role='status']", { hasText: "cannot be read" }).waitFor();
  const disabled = await page.locator(".weights fieldset").evaluate((set) => set.disabled);
  await page.getByRole("button", { name: "Read them again" }).click();
  await page.locator(".weights output", { hasText: /\d/ }).first().waitFor();
  const factors = () => page.locator(".why .factors").textContent();
  const before = await factors();
  await page.locator("#weight-glance_power").focus();
  await page.keyboard.press("ArrowRight");
  await page.waitForFunction((old) => document.querySelector(".why .factors").textContent !== old, before);
  const after = await factors();
  const focused = await page.evaluate(() => document.activeElement.id);
  await context.close();
  return { problems, disabled, before, after, focused };
}

/** A tab dies in the middle of a view while another lives, where the browser has no locks. */
export async function dies(browser, { base, viewer, locks }) {
  const { context, page, problems } = await open(browser, base);
  if (!locks) await context.addInitScript(() => Object.defineProperty(Navigator.prototype, "locks", { value: undefined }));
  const other = await open(browser, base, { context });
  const last = await open(browser, base, { context });
  const locked = await page.goto(`${base}/?viewer=${viewer}`).then(() => page.evaluate(() => Boolean(navigator.locks)));
  await other.page.goto(`${base}/?viewer=${viewer}`);
  const notes = () => page.evaluate(() => Object.keys(localStorage).filter((name) => name.startsWith("skipwise.open.")).length);
  await cardNow(page).waitFor();
  await cardNow(other.page).waitFor();
  for (let tries = 0; await notes() < 2 && tries < 50; tries += 1) await page.waitForTimeout(100);
  await other.page.goto("chrome://crash").catch(() => {});
  await page.waitForTimeout(300);
  const left = await notes();
  await last.page.goto(`${base}/?viewer=${viewer}-after`);
  await cardNow(last.page).waitFor();
  await saved(last.page);
  const adopted = await heldOf(base, viewer);
  await page.waitForTimeout(500);
  await swipe(page);
  await saved(page);
  const held = await heldOf(base, viewer);
  const watchedMs = await page.evaluate(() => window.noted.pressed[0] - window.noted.shown[0]);
  await context.close();
  return { problems: [...problems, ...last.problems], locked, left, adopted: adopted.num_events, held, watchedMs };
}

/** Put an event down at the moment when all are sent, one that comes late, and one that the server refuses. */
export async function posts(browser, { base, viewer }) {
  const { context, page, problems } = await open(browser, base);
  await page.goto(`${base}/docs`);
  const waits = await page.evaluate(async (viewerId) => {
    const { Outbox } = await import("/page/outbox.js");
    const { feed } = await (await fetch("/v1/page")).json();
    const row = (at) => ({ event_id: `${viewerId}-${at}`, viewer_id: viewerId, video_id: `video ${at}`, shown_at_ms: feed.now_ms - 60_000 + 1000 * at, watch_ms: 900, duration_ms: 9000 });
    let put = false;
    const box = new Outbox(({ waiting }) => {
      if (waiting || put) return;
      put = true;
      box.put("events", row(1));
      box.flush();
    });
    box.put("events", row(0));
    await box.flush();
    await new Promise((done) => setTimeout(done, 1500));
    localStorage.setItem("skipwise.open.gone", JSON.stringify({ ...row(2), watch_ms: 100 }));
    const adopted = box.adopt();
    setTimeout(() => {  // what a tab wrote as it went is seen after its lock is let go
      localStorage.setItem("skipwise.event." + row(2).event_id, JSON.stringify({ kind: "events", row: row(2), at: Date.now() }));
      localStorage.removeItem("skipwise.open.gone");
    }, 100);
    await adopted;
    await box.flush();
    localStorage.setItem("skipwise.event.bad", JSON.stringify({ kind: "events", row: { ...row(0), event_id: "bad", watch_ms: -7 }, at: Date.now() }));
    return box.waiting().length - 1;
  }, viewer);
  await page.clock.install();
  await page.goto(`${base}/?viewer=${viewer}-after`);
  await page.locator(".status[data-state='refused']").waitFor();
  const refused = await page.locator("#status").textContent();
  await page.clock.fastForward(61_000);
  await page.locator(".status[data-state='saved']").waitFor();
  const held = await heldOf(base, viewer);
  await context.close();
  return { problems, waits, refused, held };
}

/** Leave for another page and come back out of the browser's own cache. */
export async function restores(browser, { base, viewer }) {
  const { context, page, problems } = await open(browser, base);
  await page.goto(`${base}/?viewer=${viewer}`);
  await cardNow(page).waitFor();
  await page.evaluate(() => {
    window.restored = [];
    addEventListener("pageshow", ({ persisted }) => window.restored.push(persisted));
  });
  await swipe(page);
  let restored = [];
  for (const lost of [false, true]) {  // once the last event arrives, once it does not
    await page.waitForTimeout(1200);
    if (lost) await page.route("**/v1/events", (route) => route.abort(), { times: 1 });
    await page.goto(`${base}/docs`);
    await page.locator(".request").first().waitFor();
    await page.waitForTimeout(1500);  // away: nobody watches
    await page.goBack({ waitUntil: "commit" });
    await page.waitForFunction((number) => window.restored?.length > number, restored.length);
    restored = await page.evaluate(() => window.restored);
    await saved(page);
  }
  await page.waitForTimeout(600);
  await swipe(page);
  await saved(page);
  const held = await heldOf(base, viewer);
  const { shown, pressed } = await page.evaluate(() => window.noted);
  await context.close();
  return { problems, restored, held, cards: shown.length, swiped: pressed.length };
}

/**
 * Swipe where the browser has no room left, or keeps nothing at all (`closed`): with a connection,
 * without, with it again; leave and come back. Tells what the status line said and what was asked.
 */
export async function fills(browser, { base, viewer, closed }) {
  const { context, page, problems } = await open(browser, base);
  if (closed) {
    await context.addInitScript(() => {
      for (const name of ["localStorage", "sessionStorage"]) {
        Object.defineProperty(window, name, { get() { throw new DOMException("closed to pages", "SecurityError"); } });
      }
    });
  }
  await page.goto(`${base}/?viewer=${viewer}`);
  await cardNow(page).waitFor();
  const room = (forget = false) => page.evaluate((forgets) => {
    const notes = Object.keys(localStorage).filter((name) => forgets && name.startsWith("skipwise.open."));
    for (const name of notes) localStorage.removeItem(name);  // else the next note has its place
    let [text, free] = ["", 0];
    for (let size = 1 << 23; size; size >>= 1) {
      try {
        localStorage.setItem("filler", text + "x".repeat(size));
        text += "x".repeat(size);
        free += size;
      } catch { /* that much is not there */ }
    }
    return free;
  }, forget);
  if (!closed) await room(true);
  const status = page.locator("#status");
  const held = async () => (await heldOf(base, viewer)).num_events;
  const arrived = async (number) => {
    for (let tries = 0; await held() < number && tries < 100; tries += 1) await page.waitForTimeout(100);
    return held();
  };
  const told = {};
  await swipe(page);
  told.online = [await arrived(1), await status.filter({ hasText: "no room" }).textContent()];
  await page.route("**/v1/events", (route) => route.abort());
  for (let at = 0; at < 3; at += 1) await swipe(page);
  await status.filter({ hasText: "offline: 3" }).waitFor();
  told.offline = await status.textContent();
  if (!closed) told.left = await room();  // what the note of a view leaves is less than an event
  const asked = page.waitForEvent("dialog");
  await page.evaluate(() => setTimeout(() => location.reload()));
  const question = await asked;
  told.asked = question.type();
  await question.dismiss();  // stay
  await page.unroute("**/v1/events");
  told.again = [await arrived(4), await status.filter({ hasText: "no room" }).textContent()];
  if (!closed) {
    await page.evaluate(() => localStorage.removeItem("filler"));
    await swipe(page);
    await arrived(5);
    await status.filter({ hasText: /saved$/ }).waitFor();
    await page.route("**/v1/events", (route) => route.abort());
    await swipe(page);
    await status.filter({ hasText: "offline: 1 event kept here" }).waitFor();  // written down again
    await page.unroute("**/v1/events");
  }
  await page.goto("about:blank");  // the view that is on goes with the page
  told.last = await arrived(closed ? 5 : 7);
  await context.close();
  return { problems, ...told };
}
