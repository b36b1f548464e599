// What the page says in words, given what it is told: its own modules, without a server's part in it.
import { open } from "./harness.mjs";

/** Take the tour with views and slates that are given; tells what it said after each. */
export async function tours(browser, { base, tours: given }) {
  const { context, page, problems } = await open(browser, base);
  await page.goto(`${base}/docs`);
  const said = await page.evaluate(async (all) => {
    const { Guide } = await import("/page/guide.js");
    return all.map(({ slates, views }) => {
      localStorage.clear();
      const panel = document.createElement("aside");
      const queue = { slates: [slates[0]] };
      const guide = new Guide(panel, () => queue);
      guide.begin("new-words");
      guide.slate(queue);
      const words = [panel.textContent];
      panel.querySelector("button.main").click();
      words.push(panel.textContent);
      for (const [at, { topics, ...row }] of views.entries()) {
        guide.kept({ shown: { topics } }, { duration_ms: 60_000, ...row }, 3000);
        queue.slates.push(slates[at + 1]);
        guide.slate(queue);
        words.push(panel.textContent);
      }
      return words;
    });
  }, given);
  await context.close();
  return { problems, said };
}

/** Tell the status line how things stand; returns [state, words] of each. */
export async function states(browser, { base, told }) {
  const { context, page, problems } = await open(browser, base);
  await page.goto(`${base}/docs`);
  const said = await page.evaluate(async (all) => {
    const { NOTHING_SENT, tellStatus } = await import("/page/status.js");
    const { Failed } = await import("/page/api.js");
    const line = document.createElement("p");
    line.append(document.createElement("span"), document.createElement("span"));
    return all.map(({ failing, trouble = null, ...sent }) => {
      tellStatus(line, { ...NOTHING_SENT, ...sent, failing: failing ? new Failed(...failing) : null }, trouble);
      return [line.dataset.state, line.textContent];
    });
  }, told);
  await context.close();
  return { problems, said };
}
