// Operators look at the page and act on it, in a real browser before a real gateway; each number is held against the ledger's own.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import puppeteer from "puppeteer-core";

import { ENTERPRISE, Gateway, neverChecked } from "../sdk/node/gateway.mjs";

const TOKEN = "operators-only";
const SCREENSHOTS = new URL("screenshots/", import.meta.url).pathname;
const AXE = readFileSync(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const WIDE = { width: 1280, height: 1000 };
const NARROW = { width: 375, height: 800 };

let browser;
let gateway;
let page;
let complaints;

before(async () => {
  mkdirSync(SCREENSHOTS, { recursive: true });
  // Debian's; a container's root has no sandbox of its own.
  browser = await puppeteer.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage"] });
});
after(() => browser.close());

beforeEach(async () => {
  gateway = await Gateway.start({ budgetUsd: "1.00", more: `[admin]\ntoken = "${TOKEN}"\n` });
  page = await (await browser.createBrowserContext()).newPage();
  complaints = [];
  page.on("console", (said) => ["error", "warn"].includes(said.type()) && complaints.push(`${said.type()}: ${said.text()}`));
  page.on("pageerror", (error) => complaints.push(`thrown: ${error}`));
  page.on("request", (request) => new URL(request.url()).host !== gateway.admin && complaints.push(`elsewhere: ${request.url()}`));
});
afterEach(async () => {
  await page.browserContext().close();
  await gateway.stop();
});

/** Opens the page as who has the token. */
async function open({ signedIn = true, colours = "light", viewport = WIDE } = {}) {
  await page.setViewport(viewport);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: colours }]);
  if (signedIn) await page.evaluateOnNewDocument((token) => sessionStorage.setItem("token", token), TOKEN);
  await page.goto(`http://${gateway.admin}/`);
}

async function admin(path) {
  const answer = await fetch(`http://${gateway.admin}/admin/v1/${path}`, { headers: { authorization: `Bearer ${TOKEN}` } });
  assert.equal(answer.status, 200, path);
  return answer.json();
}

/** Asks for fresh data of one of the sandbox's numbers. */
async function fresh(index) {
  const answer = await fetch(`${gateway.baseURL}/reputation/numbers/${neverChecked(index)}?fresh=true`, {
    headers: { authorization: `Bearer ${gateway.keys.dialer}`, prefer: "handling=strict" },
  });
  await answer.arrayBuffer();
  return answer.headers.get("x-gateway-decision");
}

const shows = (selector, text) =>
  page.waitForFunction((selector, text) => document.querySelector(selector)?.textContent.includes(text), {}, selector, text);
const text = (selector) => page.$eval(selector, (found) => found.textContent);
const budget = (part) => `[data-budget="all-month"] ${part}`;

async function confirm({ reason, fields = {} }) {
  for (const [name, value] of Object.entries({ reason, author: "ada", ...fields })) {
    await page.$eval(`#act [name=${name}]`, (field) => (field.value = ""));
    await page.type(`#act [name=${name}]`, value);
  }
  await page.click("#act-go");
  await page.waitForFunction(() => !document.querySelector("#act").open);
}

/** What axe-core finds of weight. */
async function barriers() {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => axe.run());
  const serious = violations.filter((each) => ["serious", "critical"].includes(each.impact));
  return serious.map((each) => `${each.id}: ${each.nodes.map((node) => node.html).join(" ")}`);
}

describe("the page", () => {
  test("shows the ledger's numbers, also after a restart", async () => {
    for (const index of [1, 2, 3]) assert.equal(await fresh(index), "billed");
    await open();
    await shows("#tile-spent", "$0.30");
    const [{ data: budgets }, { data: rows }] = [await admin("budgets"), await admin("ledger")];
    assert.equal(await text(budget(".spent")), `$${budgets[0].spent_usd}`);
    assert.equal(await text(budget(".limit")), `$${budgets[0].limit_usd}`);
    const posted = rows.map((row) => `$${row.posted_usd}`).toReversed();
    assert.deepEqual(await page.$$eval("#latest tbody tr", (rows) => rows.map((row) => row.cells[6].textContent)), posted);
    assert.deepEqual(await page.$$eval("#callers tbody td", (cells) => cells.map((cell) => cell.textContent)), ["dialer", "3", "$0.30"]);
    assert.equal((await gateway.charges()).total_usd, "0.30");
    await gateway.restart();
    await page.goto(`http://${gateway.admin}/`);
    await shows("#tile-spent", "$0.30");
    assert.equal(await text(budget(".spent")), "$0.30");
    assert.deepEqual(complaints, []);
  });

  test("masks numbers until somebody wants them whole", async () => {
    await fresh(7);
    await open();
    await shows("#numbers", "+1202•");
    assert.ok(!(await text("body")).includes(neverChecked(7)));
    await page.click("#whole");
    await shows("#numbers", neverChecked(7));
    await shows("#latest", neverChecked(7));
  });

  test("follows what happens without being loaded again", async () => {
    await open();
    await shows(budget(".spent"), "$0.00");
    await page.evaluate(() => (window.kept = true));
    assert.equal(await fresh(1), "billed");
    await shows(budget(".spent"), "$0.10");
    await shows("#latest", "settled");
    await shows("#tile-spent", "$0.10");
    assert.ok(await page.evaluate(() => window.kept), "it is the same document");
    assert.deepEqual(complaints, []);
  });

  test("stops spending and allows it again, with a reason that is kept", async () => {
    await open();
    await page.waitForSelector("#kill:not([disabled])");
    await page.click("#kill");
    await confirm({ reason: "an invoice looks wrong" });
    await shows("#state", "Spending is stopped: an invoice looks wrong");
    assert.equal(await fresh(1), "kill_switch");
    assert.equal((await gateway.charges()).count, 0);
    const { data: stopped } = await admin("kill-switch");
    assert.deepEqual([stopped.on, stopped.reason, stopped.author], [true, "an invoice looks wrong", "ada"]);
    await page.click("#kill");
    await confirm({ reason: "it was right" });
    await shows("#state", "All is well");
    assert.equal(await fresh(1), "billed");
    assert.deepEqual(complaints, []);
  });

  test("raises a budget for a while, and says why it cannot", async () => {
    await open();
    await page.waitForSelector(budget("button"));
    await page.click(budget("button"));
    await page.type("#act [name=amount]", "0");
    for (const name of ["reason", "author"]) await page.type(`#act [name=${name}]`, "ada");
    await page.click("#act-go");
    await shows("#act .wrong", "amount_usd is more than nothing");
    await confirm({ reason: "a campaign", fields: { amount: "2.50" } });
    await shows(budget(".limit"), "$3.50 ($2.50 raised)");
    const { data } = await admin("budgets");
    assert.deepEqual(data[0].overrides.map((each) => [each.amount_usd, each.reason]), [["2.50", "a campaign"]]);
  });

  test("asks for the token, and takes no other", async () => {
    await open({ signedIn: false });
    await page.waitForSelector("#sign-in[open]");
    assert.deepEqual(await barriers(), []);
    await page.type("#sign-in [name=token]", "guessed");
    await page.click("#sign-in button");
    await shows("#sign-in .wrong", "not the token");
    await page.$eval("#sign-in [name=token]", (field) => (field.value = ""));
    await page.type("#sign-in [name=token]", TOKEN);
    await page.keyboard.press("Enter");
    await shows(budget(".spent"), "$0.00");
    // The browser itself tells of each refusal, and of nothing else.
    assert.deepEqual(complaints.filter((each) => !each.includes("401")), []);
  });

  test("explains a request that nobody made, and makes none", async () => {
    await open();
    await page.type("#explain [name=path]", `/v2/enterprises/${ENTERPRISE}/reputation/numbers/${neverChecked(1)}?fresh=true`);
    await page.type("#explain [name=caller]", "dialer");
    await page.click("#explain button");
    await shows("#explained", "a check is bought");
    await page.$eval("#explain [name=caller]", (field) => (field.value = "nobody"));
    await page.click("#explain button");
    await shows("#explained", 'no [[caller]] is named "nobody"');
    assert.equal((await gateway.requestsUpstream()).data?.length ?? 0, 0);
  });

  test("explains the last decisions, by keyboard and by click, and goes on with what is open", async () => {
    assert.equal(await fresh(1), "billed");
    await open();
    await shows("#requests", "billed");
    const { data: [made] } = await admin("requests?limit=1");
    const rows = () => page.$$eval("#requests tbody tr", (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
    const [[decision, , caller, operation, number, status, billed, cost, id]] = await rows();
    assert.deepEqual([decision, caller, operation, number, status, billed, cost, id], ["billed", "dialer", "retrieve", made.number, "200", "yes", "$0.10", made.request_id]);
    await page.focus("#requests .opens");
    await page.keyboard.press("Enter");
    await shows("#requests .told", "a fresh check was answered");
    const { data: [told] } = await admin(`explain?request_id=${made.request_id}`);
    assert.deepEqual(await page.$$eval("#requests .told ol li", (steps) => steps.map((step) => step.textContent)), told.steps.map((step) => `${step.step}: ${step.text}`));
    await shows("#requests .told", "is settled, $0.10 posted");
    assert.deepEqual(await barriers(), []);
    assert.equal(await fresh(1), "cooldown");
    await shows("#requests", "cooldown");
    await shows("#requests .told", "a fresh check was answered");
    assert.equal(await page.evaluate(() => document.activeElement.dataset.request), `${made.request_id} ${made.at}`, "the focus is where it was");
    await page.click("#requests [aria-expanded=true]");
    await page.waitForFunction(() => !document.querySelector("#requests .told"));
    await page.click("#billed-only");
    await page.waitForFunction(() => !document.querySelector("#requests").textContent.includes("cooldown"));
    await page.type("#past [name=request]", made.request_id);
    await page.click("#past button");
    await shows("#past-explained", "budget all-month had room");
    await page.$eval("#past [name=request]", (field) => (field.value = "nobodys"));
    await page.click("#past button");
    await shows("#past-explained", "no request of this id is among");
    // The browser itself tells of the last answer, which is a 404.
    assert.deepEqual(complaints.filter((each) => !each.includes("404")), []);
  });

  test("says that the gateway is gone, and goes on when it is back", async () => {
    await open();
    await shows(budget(".spent"), "$0.00");
    await page.setOfflineMode(true);
    await shows("#banner:not([hidden])", "The gateway does not answer");
    await page.setOfflineMode(false);
    await page.waitForSelector("#banner[hidden]");
  });

  test("is worked by the keyboard alone", async () => {
    await open();
    await page.waitForSelector("#kill:not([disabled])");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.id), "kill");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#act[open]");
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => !document.querySelector("#act").open);
    assert.equal(await page.evaluate(() => document.activeElement.id), "kill", "the focus is where it was");
  });

  for (const [name, colours, viewport] of [["light", "light", WIDE], ["dark", "dark", WIDE], ["narrow", "light", NARROW]]) {
    test(`has no barrier and fits, ${name}`, async () => {
      for (const index of [1, 2]) await fresh(index);
      await gateway.script({ fault: "reset_after_billing" });
      await fresh(3);
      await open({ colours, viewport });
      await shows("#tile-spent", "$0.30");
      await page.waitForSelector("#spending-chart canvas");
      await page.click("#requests .opens");
      await shows("#requests .told", "recovered");
      await page.screenshot({ path: `${SCREENSHOTS}${name}.png`, fullPage: true });
      assert.deepEqual(await barriers(), []);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing stands out to the side");
      await page.click("#kill");
      await page.waitForSelector("#act[open]");
      assert.deepEqual(await barriers(), []);
    });
  }

  test("has uPlot as its authors publish it", () => {
    for (const [ours, theirs] of [["uplot.js", "dist/uPlot.iife.min.js"], ["uplot.css", "dist/uPlot.min.css"], ["uplot.LICENSE", "LICENSE"]]) {
      const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");
      assert.equal(read(`../../src/admin/page/${ours}`), read(`node_modules/uplot/${theirs}`));
    }
  });
});
