// The live page in a real browser: `node page_checks.js http://ADDR:PORT [SCREENSHOTS]`. A line `ok NAME` for each check that holds, in this
// order; the first that does not ends it. Expects a consumer `press` with dead letters at two offsets, and a client `oven-7` that was kicked.
"use strict";

const assert = require("node:assert");
const { fitsEverywhere, ok, open, run } = require("./page.js");

const [, , url, screenshots] = process.argv;

const main = async () => {
  const window = await open(url, screenshots);
  const { browser, page, response, complaints, foreign, shoot } = window;
  assert.match(response.headers()["content-security-policy"], /default-src 'none'/);
  ok("policy");

  await page.locator("#ready", { hasText: /^ready$/ }).waitFor();
  await page.waitForFunction(() => document.querySelector("#plots polyline").getAttribute("points").split(" ").length >= 3);
  ok("live");

  await page.locator("#clients-search").fill("OVEN-7");
  await page.locator("#clients-state").selectOption("all");
  await page.locator("#clients-rows button", { hasText: /^oven-7$/ }).click();
  await page.locator("#sheet .why", { hasText: "administrative action" }).waitFor();
  await shoot("client-1280");
  await page.keyboard.press("Escape");
  await page.locator("#sheet").waitFor({ state: "hidden" });
  assert.equal(await page.locator("#clients-rows tr").count(), 1);
  await page.locator("#clients-search").fill("");
  ok("why_disconnected");

  await page.locator("#streams-rows tr", { hasText: "telemetry" }).waitFor();
  await page.locator("#consumers-rows tr", { hasText: "press" }).waitFor();
  ok("streams");

  await page.locator("#letters-consumer").selectOption("press");
  await page.waitForFunction(() => document.querySelectorAll("#letters-rows button.link").length === 2);
  await page.locator("#letters-rows button.link").first().click();
  await page.locator("#sheet pre").waitFor();
  await page.locator("#sheet-close").click();
  // The second is redriven by keyboard alone, the first purged.
  await page.locator("#letters-rows tr").nth(1).locator("button", { hasText: "Redrive" }).focus();
  await page.keyboard.press("Enter");
  await page.locator("#toast", { hasText: "1 on their way again to press" }).waitFor();
  ok("redrive");
  await page.locator("#letters-rows tr").nth(0).locator("button", { hasText: "Purge" }).click();
  await page.locator("#sheet-actions button", { hasText: "Purge" }).click();
  await page.locator("#toast", { hasText: "1 removed" }).waitFor();
  ok("purge");

  await page.locator("#messages-filter").fill("devices/+/temperature");
  await page.keyboard.press("Enter");
  await page.locator("#messages-rows td", { hasText: "devices/oven-8/temperature" }).first().waitFor();
  assert.equal(await page.locator("#messages-rows td", { hasText: "humidity" }).count(), 0);
  await shoot("page-1280");
  await page.locator("#messages-toggle").click();
  ok("messages");

  // The tree of topics, opened by keyboard alone down to a topic with its rate.
  await page.locator("#topics-toggle").click();
  const at = (topic) => page.locator(`#topics-tree [data-topic="${topic}"]`);
  await at("devices").waitFor();
  await at("devices").focus();
  await page.keyboard.press("ArrowRight");
  await at("devices/oven-8").waitFor();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  await at("devices/oven-8/temperature").waitFor();
  await page.locator("#topics-tree [data-topic='devices/oven-8/temperature'] .figure", { hasText: /^[1-9].*\/s$/ }).first().waitFor();
  assert.equal(await at("devices").getAttribute("aria-expanded"), "true");
  await page.keyboard.press("End");
  assert.equal(await page.evaluate(() => document.activeElement.dataset.topic), "devices/oven-8/temperature");
  await page.keyboard.press("ArrowLeft");
  assert.equal(await page.evaluate(() => document.activeElement.dataset.topic), "devices/oven-8", "and to what it is below");
  ok("topics");

  await fitsEverywhere(window, "page");
  ok("fits");

  // Everything that can be clicked can be reached by the Tab key.
  await page.evaluate(() => { document.activeElement.blur(); window.scrollTo(0, 0); });
  const reached = new Set();
  for (let step = 0; step < 120; step++) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement.id));
  }
  for (const id of ["clients-search", "clients-state", "topics-toggle", "letters-consumer", "messages-filter", "messages-toggle"]) {
    assert.ok(reached.has(id), `${id} is not reached by Tab`);
  }
  ok("keyboard");

  assert.deepEqual(complaints, []);
  assert.deepEqual(foreign, []);
  ok("quiet");
  await browser.close();
};

run(main);
