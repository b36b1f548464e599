// A report on a phone's screen: what would be wider than it, and does what scrolls say so?
import { open, VIEWPORTS } from "./harness.mjs";

/** Open a file at both sizes; per size what lies beyond the screen, and what each scroller holds. */
export async function measuresReport(browser, { file }) {
  const { context, page, problems } = await open(browser, `file://${file}`);
  const told = {};
  for (const [size, viewport] of Object.entries(VIEWPORTS)) {
    await page.setViewportSize(viewport);
    await page.goto(`file://${file}`);
    told[size] = await page.evaluate(() => {
      const beyond = (each) => each.getBoundingClientRect().right > innerWidth + 0.5;
      const outside = [...document.body.querySelectorAll("*")].filter((each) => !each.closest(".scroll table, .scroll svg"));
      const captions = [...document.querySelectorAll("caption")];
      const scrolls = [...document.querySelectorAll(".scroll")].map((each) => each.scrollWidth > each.clientWidth);
      for (const each of document.querySelectorAll(".scroll")) each.scrollLeft = each.scrollWidth;
      const gone = captions.filter((each) => each.getBoundingClientRect().left < 0);
      for (const each of document.querySelectorAll(".scroll")) each.scrollLeft = 0;
      return {
        page: document.documentElement.scrollWidth > innerWidth,
        beyond: outside.filter(beyond).map((each) => `${each.tagName}: ${each.textContent.slice(0, 40)}`),
        captions: [...captions.filter(beyond), ...gone].map((each) => each.textContent),
        scrolls,
      };
    });
  }
  await context.close();
  return { problems, told };
}
