// What the checks of the live page share: a browser that notes what the page complains of and whom it asks.
"use strict";

const assert = require("node:assert");
const { chromium } = require("playwright-core");

const TIMEOUT = 15_000;

/** Says that a check holds. */
const ok = (name) => console.log(`ok ${name}`);

/** Opens the page. With `screenshots`, a directory, `shoot` keeps pictures of it. */
const open = async (url, screenshots) => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  page.setDefaultTimeout(TIMEOUT);
  const complaints = [];
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) complaints.push(message.text()); });
  page.on("pageerror", (error) => complaints.push(`${error}`));
  const foreign = [];
  page.on("request", (request) => { if (!request.url().startsWith(url) && !request.url().startsWith("data:")) foreign.push(request.url()); });
  const response = await page.goto(url);
  const shoot = async (name, fullPage = true) => {
    if (screenshots) await page.screenshot({ path: `${screenshots}/${name}.png`, fullPage });
  };
  return { browser, page, response, complaints, foreign, shoot };
};

/** Nothing is wider than the window, whatever its width and the colours. */
const fitsEverywhere = async ({ page, shoot }, name, fullPage = true) => {
  for (const [width, scheme] of [[1280, "light"], [1280, "dark"], [390, "light"], [390, "dark"]]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height: 900 });
    const { wide, window } = await page.evaluate(() => ({
      wide: document.documentElement.scrollWidth, window: document.documentElement.clientWidth }));
    assert.ok(wide <= window, `${width} ${scheme}: ${wide} pixels in a window of ${window}`);
    await shoot(`${name}-${width}-${scheme}`, fullPage);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 900 });
};

/** Runs the checks; the first that does not hold ends the program. */
const run = (main) => main().catch((error) => {
  console.error(error);
  process.exit(1);
});

module.exports = { TIMEOUT, fitsEverywhere, ok, open, run };
