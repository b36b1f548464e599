// What every scenario stands on: a page that notes whatever it should not do, and what was done.
import { chromium } from "playwright-core";

/** Open a page; `problems` fills with console errors, uncaught errors and foreign requests. */
export async function open(browser, base, options = {}) {
  const context = options.context ?? await browser.newContext({
    viewport: { width: 390, height: 844 }, colorScheme: "light", ...options.of,
  });
  const page = await context.newPage();
  const problems = [];
  page.on("console", (said) => {
    if (["error", "warning"].includes(said.type())) problems.push(`${said.type()}: ${said.text()}`);
  });
  page.on("pageerror", (problem) => problems.push(`uncaught: ${problem.message}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(base) && !request.url().startsWith("data:")) problems.push(`foreign: ${request.url()}`);
  });
  await page.addInitScript(watching);
  return { context, page, problems };
}

/** Runs in the page: notes when each card came and when a key was pressed, by its own measure. */
function watching() {
  window.noted = { shown: [], drawn: [], pressed: [], shifted: 0 };
  new PerformanceObserver((list) => {
    for (const shift of list.getEntries()) if (!shift.hadRecentInput) window.noted.shifted += shift.value;
  }).observe({ type: "layout-shift", buffered: true });
  addEventListener("keydown", () => window.noted.pressed.push(performance.now()), true);
  let last = null;
  new MutationObserver(() => {
    const card = document.querySelector(".card[data-at='0']");
    if (card && card !== last) {
      last = card;
      window.noted.shown.push(performance.now());
      const drawn = new MessageChannel();  // a task after the frame's layout and paint
      drawn.port1.onmessage = () => window.noted.drawn.push(performance.now());
      requestAnimationFrame(() => drawn.port2.postMessage(null));
    }
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-at"] });
}

export const VIEWPORTS = { phone: { width: 390, height: 844 }, desk: { width: 1440, height: 900 } };

/** What the server holds of a viewer. */
export const heldOf = async (base, viewer) => (await fetch(`${base}/v1/viewers/${viewer}`)).json();

export const cardNow = (page) => page.locator(".card[data-at='0']");

/** Wait until everything that was done is on the server's disk. */
export async function saved(page) {
  await page.waitForFunction(() => !Object.keys(localStorage).some((name) => name.startsWith("skipwise.event.")), null, { timeout: 20_000 });
}

/** Press a key and wait for another card. */
export async function swipe(page, press = "ArrowDown") {
  const before = await page.evaluate(() => window.noted.shown.length);
  await page.keyboard.press(press);
  await page.waitForFunction((number) => window.noted.shown.length > number, before, { timeout: 10_000 });
}

export async function run(scenarios) {
  const [endpoint, name, given] = process.argv.slice(2);
  const browser = await chromium.connect(endpoint);
  try {
    const told = await scenarios[name](browser, JSON.parse(given));
    console.log(JSON.stringify(told));
  } finally {
    await browser.close();
  }
}
