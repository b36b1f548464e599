// One browser for all scenarios: says where it listens, and lives as long as its input is open. It
// keeps pages one has left, as browsers do and as playwright forbids unless told.
import { chromium } from "playwright-core";

const server = await chromium.launchServer({
  executablePath: process.argv[2],
  ignoreDefaultArgs: ["--disable-back-forward-cache"],
  args: ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"],
});
console.log(server.wsEndpoint());
process.stdin.resume();
process.stdin.on("end", () => server.close());
