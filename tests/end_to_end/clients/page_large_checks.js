// The live page under a running fleet: `node page_large_checks.js http://ADDR:PORT CLIENTS [SCREENSHOTS]`. A line `ok NAME` for each check that
// holds, in this order, and figures on standard error. Expects CLIENTS connected clients or more whose names begin with `dev-`, and events.
"use strict";

const assert = require("node:assert");
const { fitsEverywhere, ok, open, run } = require("./page.js");

const [, , url, clients, screenshots] = process.argv;
/** How long what a person does may take to show, in milliseconds, and how long half of the frames may. Generous: the machine may have other things to do. */
const ANSWER = 5_000;
const FRAME = 100;
/** How long frames are looked at. */
const LOOK = Number(clients) > 1_000 ? 4_000 : 1_500;

/** Milliseconds between frames for a while: [the middle one, the 95th of a hundred, the longest]. */
const frames = (page) => page.evaluate((look) => new Promise((resolve) => {
  const gaps = [];
  const begun = performance.now();
  let last = begun;
  const next = (now) => {
    gaps.push(now - last);
    last = now;
    if (now - begun < look) return requestAnimationFrame(next);
    gaps.sort((a, b) => a - b);
    resolve([gaps[gaps.length >> 1], gaps[Math.floor(gaps.length * 0.95)], gaps[gaps.length - 1]].map(Math.round));
  };
  requestAnimationFrame(next);
}), LOOK);

const main = async () => {
  const window = await open(url, screenshots);
  const { browser, page, complaints, foreign, shoot } = window;
  const figures = {};
  /** Does something, and waits until the page shows it: how long that took. */
  const timed = async (name, act, shows) => {
    const begun = Date.now();
    await act();
    await page.waitForFunction(shows);
    figures[name] = Date.now() - begun;
    assert.ok(figures[name] <= ANSWER, `${name} took ${figures[name]} ms`);
  };
  const smooth = async (name) => {
    figures[name] = await frames(page);
    assert.ok(figures[name][0] <= FRAME, `${name}: ${figures[name]} ms between frames`);
  };

  await page.locator("#ready", { hasText: /^ready$/ }).waitFor();
  await page.waitForFunction(() => document.querySelector("#plots polyline").getAttribute("points").split(" ").length >= 3);
  await smooth("frames");
  ok("live");

  await page.locator("#messages-filter").fill("devices/#");
  await timed("watch", () => page.keyboard.press("Enter"), () => document.querySelectorAll("#messages-rows td.payload").length > 20);
  await smooth("frames_with_messages");
  await page.waitForFunction(() => document.querySelector("#messages-note").textContent.includes("a sample"));
  assert.ok(await page.locator("#messages-rows tr").count() <= 200);
  const high = await page.evaluate(() => document.documentElement.scrollHeight);
  assert.ok(high <= 5_000, `lists scroll by themselves, and the page is ${high} pixels high`);
  ok("messages");

  await timed("search", () => page.locator("#clients-search").fill("DEV-00042"),
    () => document.querySelectorAll("#clients-rows tr").length === 1
      && document.querySelector("#clients-rows button").textContent.startsWith("dev-00042"));
  await timed("show", () => page.locator("#clients-rows button").first().click(),
    () => document.querySelector("#sheet").open && document.querySelector("#sheet-body").textContent.includes("connected"));
  await shoot("large-client", false);
  await page.keyboard.press("Escape");
  await timed("search_undone", () => page.locator("#clients-search").fill(""),
    () => document.querySelectorAll("#clients-rows tr").length === 20);
  ok("search");
  await fitsEverywhere(window, "large");
  ok("fits");

  // Everybody, page by page.
  const begun = Date.now();
  await page.evaluate((wanted) => new Promise((resolve) => {
    const more = document.getElementById("clients-more");
    const rows = document.getElementById("clients-rows").rows;
    let asked = 0;
    const next = () => {
      if (rows.length >= wanted || more.hidden) return resolve();
      if (rows.length > asked) {
        asked = rows.length;
        more.click();
      }
      setTimeout(next, 5);
    };
    next();
  }), Number(clients));
  figures.list = Date.now() - begun;
  const names = await page.locator("#clients-rows button").allTextContents();
  assert.ok(names.length >= Number(clients), `${names.length} of ${clients} clients are listed`);
  assert.equal(new Set(names).size, names.length, "each once");
  await smooth("frames_with_all");
  await fitsEverywhere(window, "large-all", false);
  await timed("search_all", () => page.locator("#clients-search").fill("dev-0000"),
    () => [...document.querySelectorAll("#clients-rows button")].every((name) => name.textContent.startsWith("dev-0000")));
  ok("all");

  console.error(`figures (ms; frames: middle, 95 %, longest) ${JSON.stringify(figures)}`);
  assert.deepEqual(complaints, []);
  assert.deepEqual(foreign, []);
  ok("quiet");
  await browser.close();
};

run(main);
