// Opens the pages that tests/browser.rs wrote in a real headless Chromium and checks what a person would.
// usage: node check.mjs FOLDER; the browser's path is in $ISTHMUS_CHROMIUM.

import assert from "node:assert/strict";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const folder = process.argv[2];
const address = (name) => pathToFileURL(path.join(folder, `${name}.html`)).href;
const root = typeof process.getuid === "function" && process.getuid() === 0;
const browser = await chromium.launch({ executablePath: process.env.ISTHMUS_CHROMIUM, args: ["--disable-dev-shm-usage", ...(root ? ["--no-sandbox"] : [])] });

/** Opens a page; whatever it says, asks for or throws fails the check. */
async function open(where, options, work) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 }, colorScheme: "light", ...options });
  const page = await context.newPage();
  const trouble = [];
  const requests = [];
  page.on("console", (message) => trouble.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => trouble.push(error.message));
  page.on("dialog", (dialog) => { trouble.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => { if (!request.url().startsWith("data:")) requests.push(request.url()); });
  const begun = performance.now();
  await page.goto(where);
  const loaded = performance.now() - begun;
  await work(page, { requests, trouble, loaded });
  assert.deepEqual(trouble, [], "the page complains");
  await context.close();
  return requests;
}

const offline = async (name, options, work) => {
  const requests = await open(address(name), options, work);
  assert.deepEqual(requests, [address(name)], "the page asks for something");
};

async function accessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}\n    ${nodes.slice(0, 3).map((node) => `${node.html}\n      ${node.failureSummary}`).join("\n    ")}`);
  assert.deepEqual(found, [], `axe on ${what}`);
}

const count = (page, selector) => page.locator(selector).count();
const text = (page, selector) => page.locator(selector).innerText();
const focused = (page) => page.evaluate(() => document.activeElement.dataset.cluster || document.activeElement.id || document.activeElement.localName);

let passed = 0;
async function check(name, work) {
  const begun = performance.now();
  try {
    await work();
  } catch (error) {
    console.error(`FAILED ${name}\n${error.stack}`);
    process.exitCode = 1;
    return;
  }
  passed += 1;
  console.log(`ok ${name} (${Math.round(performance.now() - begun)} ms)`);
}

await check("three joined clusters are drawn", () => offline("three", {}, async (page) => {
  assert.equal(await count(page, ".node"), 3);
  assert.equal(await count(page, ".link"), 6);
  assert.equal(await count(page, '.link[data-state="joined"]'), 6);
  assert.equal(await text(page, "h1"), "All 3 clusters are joined");
  assert.match(await text(page, "#summary"), /3 clusters, 6 links: 6 joined/);
  for (const name of ["ash", "birch", "cedar"]) {
    const box = await page.locator(`.node[data-cluster="${name}"]`).boundingBox();
    assert.ok(box.width > 60 && box.height > 30, `${name} is drawn`);
    assert.ok((await text(page, "#table")).includes(name));
  }
  assert.ok(await page.locator(".link .line").first().evaluate((line) => line.getTotalLength() > 40));
}));

await check("a cluster that does not answer is the headline, with its reason", () => offline("broken", {}, async (page) => {
  assert.equal(await text(page, "h1"), "cedar is broken");
  assert.match(await page.title(), /^Broken/);
  const problem = page.locator("#problems .problem").first();
  assert.match(await problem.innerText(), /cedar[\s\S]*no answer|cedar[\s\S]*10 s/);
  await problem.click();
  assert.equal(await focused(page), "details");
  assert.match(await text(page, "#details"), /Broken[\s\S]*10 s/);
  assert.match(await text(page, "#details"), /Metadata read/);
}));

await check("where nobody was asked the page says so", () => offline("files", {}, async (page) => {
  assert.equal(await text(page, "h1"), "By the files, all 3 clusters are joined");
  assert.match(await text(page, "#when"), /no cluster was asked/);
}));

await check("a broken link is drawn apart and says why", () => offline("broken", {}, async (page) => {
  const broken = page.locator('.link[data-state="broken"]');
  assert.equal(await broken.count(), 4);
  const [dash, joined] = await page.evaluate(() => ["broken", "joined"].map((state) => getComputedStyle(document.querySelector(`.link[data-state="${state}"] .line`)).strokeDasharray));
  assert.notEqual(dash, joined, "told apart by more than colour");
  assert.equal(await broken.first().locator(".sign").count(), 1, "and by a sign");
  const { reader, peer } = await broken.first().evaluate((link) => ({ ...link.dataset }));
  await broken.first().locator(".badge").click();
  assert.match(await text(page, "#details h2"), new RegExp(`${reader} → ${peer}`));
  assert.match(await text(page, "#details .box"), /cedar/);
  await broken.first().locator(".badge").hover();
  assert.match(await text(page, "#tip"), /Broken/);
}));

await check("text and states filter, Escape shows all again", () => offline("broken", {}, async (page) => {
  const rows = () => count(page, "#table tbody tr");
  await page.keyboard.press("/");
  await page.keyboard.type("bir");
  assert.equal(await rows(), 1);
  assert.equal(await count(page, ".node.dim"), 2);
  assert.match(await text(page, "#matches"), /^1 of 3 clusters/);
  await page.keyboard.press("Escape");
  assert.equal(await rows(), 3);
  assert.equal(await count(page, ".dim"), 0);
  await page.locator('.chip[data-state="broken"]').click();
  assert.equal(await page.locator('.chip[data-state="broken"]').getAttribute("aria-pressed"), "true");
  assert.equal(await count(page, '.link:not(.dim)'), 4);
  assert.equal(await count(page, '.link[data-state="joined"]:not(.dim)'), 0);
}));

await check("the keyboard reaches each cluster and comes back", () => offline("broken", {}, async (page) => {
  for (let tabs = 0; tabs < 40 && !(await page.evaluate(() => document.activeElement.classList.contains("node"))); tabs += 1) await page.keyboard.press("Tab");
  const seen = new Set();
  for (let step = 0; step < 3; step += 1) {
    seen.add(await focused(page));
    const halo = await page.evaluate(() => getComputedStyle(document.activeElement.querySelector(".halo")).stroke);
    assert.notEqual(halo, "none", "focus is visible");
    await page.keyboard.press("ArrowRight");
  }
  assert.deepEqual([...seen].sort(), ["ash", "birch", "cedar"]);
  const name = await focused(page);
  await page.keyboard.press("Enter");
  assert.equal(await text(page, "#details h2"), name);
  await page.keyboard.press("Escape");
  assert.equal(await focused(page), name);
  assert.match(await text(page, "#details"), /How to read it/);
}));

await check("200 clusters are a matrix, drawn and fast", () => offline("crowd", {}, async (page, { loaded }) => {
  assert.ok(loaded < 15_000, `loaded in ${loaded} ms`);
  assert.equal(await count(page, "#table tbody tr"), 200);
  const colours = await page.evaluate(() => {
    const canvas = document.querySelector(".matrix canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const counts = new Map();
    for (let at = 0; at < data.length; at += 4) {
      if (!data[at + 3]) continue;
      const key = `${data[at]},${data[at + 1]},${data[at + 2]}`;
      counts.set(key, (counts.get(key) || 0) + 1);
    }
    return [...counts.values()].filter((count) => count > 500).length;
  });
  assert.ok(colours >= 3, `${colours} colours in the matrix: joined, broken and waiting differ`);
  const begun = performance.now();
  await page.fill("#search", "site-04");
  assert.equal(await count(page, "#table tbody tr"), 10);
  await page.fill("#search", "");
  assert.equal(await count(page, "#table tbody tr"), 200);
  assert.ok(performance.now() - begun < 8000, "filters fast");
  const canvas = await page.locator("#cells").boundingBox();
  await page.locator("#cells").hover({ position: { x: canvas.width * .7, y: canvas.height * .4 } });
  assert.match(await text(page, "#tip"), /site-\d+ → site-\d+/);
}));

await check("200 clusters are in reach of the keyboard", () => offline("crowd", {}, async (page) => {
  const cells = page.locator("#cells");
  await cells.focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowDown");
  assert.match(await page.locator("#said").textContent(), /site-\d+ → site-\d+: |site-\d+: /);
  await page.keyboard.press("Enter");
  assert.equal(await focused(page), "details");
  await page.locator('#table button[tabindex="0"]').focus();
  const seen = await page.evaluate(async () => {
    const names = new Set();
    for (let step = 0; step < 200; step += 1) {
      names.add(document.activeElement.dataset.cluster);
      document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true }));
    }
    return names.size;
  });
  assert.equal(seen, 200);
  const name = await focused(page);
  await page.keyboard.press("Enter");
  assert.equal(await text(page, "#details h2"), name);
}));

for (const colorScheme of ["light", "dark"]) {
  for (const name of ["three", "broken", "forty", "crowd"]) {
    await check(`axe finds nothing: ${name}, ${colorScheme}`, () => offline(name, { colorScheme, reducedMotion: "reduce" }, async (page) => {
      await accessible(page, name);
      await page.locator("#table button").first().click();
      await page.locator(".chip").first().click();
      await accessible(page, `${name} with a cluster shown`);
      const link = page.locator("#details td button");
      if (await link.count()) {
        await link.first().click();
        await accessible(page, `${name} with a link shown`);
      }
    }));
  }
}

await check("light and dark follow the system, and the button", () => offline("three", { colorScheme: "dark" }, async (page) => {
  const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const dark = await ground();
  await page.locator("#theme").click();
  const light = await ground();
  assert.notEqual(dark, light);
  await page.emulateMedia({ colorScheme: "light" });
  assert.equal(await ground(), light);
}));

await check("what clusters say is text and nothing else", () => offline("hostile", {}, async (page) => {
  await page.locator("#table button").first().click();
  assert.match(await text(page, "#details"), /<\/script><img src=x onerror=alert\(1\)>/);
  assert.equal(await count(page, "img"), 0);
  assert.equal(await count(page, "script"), 2);
  assert.match(await text(page, "#details"), /<!--<script>/);
}));

await check("a narrow screen needs no sideways scrolling", async () => {
  for (const name of ["three", "broken", "forty", "crowd"]) {
    await offline(name, { viewport: { width: 360, height: 740 } }, async (page) => {
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= 360, `${name} is ${width} px wide`);
    });
  }
});

await check("motion can be reduced, paper shows no controls", () => offline("three", { reducedMotion: "reduce" }, async (page) => {
  assert.equal(await page.locator(".chip").first().evaluate((chip) => getComputedStyle(chip).transitionDuration), "0s");
  await page.emulateMedia({ media: "print" });
  assert.equal(await page.locator(".tools").isVisible(), false);
  assert.equal(await page.locator("#table").isVisible(), true);
}));

await check("live: news come in, the choice and the filter stay, a gone server is said", async () => {
  const read = (name) => fs.readFileSync(path.join(folder, name));
  const answers = { "/": ["text/html; charset=utf-8", read("live.html")], "/picture.json": ["application/json", read("live.json")] };
  let up = true;
  const server = http.createServer((request, response) => {
    const answer = answers[request.url];
    if (!up) return request.socket.destroy();
    response.writeHead(answer ? 200 : 404, { "content-type": answer ? answer[0] : "text/plain" });
    return response.end(answer ? answer[1] : "");
  });
  await new Promise((ready) => { server.listen(0, "127.0.0.1", ready); });
  const base = `http://127.0.0.1:${server.address().port}/`;
  try {
    const requests = await open(base, {}, async (page, { trouble }) => {
      assert.equal(await text(page, "h1"), "All 3 clusters are joined");
      await page.locator('.node[data-cluster="birch"]').click();
      await page.fill("#search", "bir");
      answers["/picture.json"][1] = read("news.json");
      await page.waitForFunction(() => document.querySelector("h1").innerText === "cedar is broken", null, { timeout: 40_000 });
      assert.equal(await text(page, "#details h2"), "birch");
      assert.equal(await page.inputValue("#search"), "bir");
      assert.equal(await count(page, ".node.dim"), 2);
      assert.match(await page.locator("#said").textContent(), /cedar is broken/);
      up = false;
      await page.locator("#gone").waitFor({ state: "visible", timeout: 40_000 });
      assert.match(await text(page, "#gone"), /does not answer since/);
      assert.equal(await text(page, "h1"), "cedar is broken");
      up = true;
      await page.locator("#gone").waitFor({ state: "hidden", timeout: 40_000 });
      // the browser itself notes the requests that failed while the server was gone
      trouble.splice(0, trouble.length, ...trouble.filter((words) => !words.includes("net::ERR_")));
    });
    const others = requests.filter((url) => url !== base && url !== `${base}picture.json`);
    assert.deepEqual(others, [], "the page asks for nothing else");
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

await browser.close();
console.log(`${passed} checks passed`);
