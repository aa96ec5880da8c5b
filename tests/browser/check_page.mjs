// Open a report in a headless browser, use it, and print what happened as JSON.
//
//     node check_page.mjs PAGE.html FOLDER-OF-SCREENSHOTS
import { pathToFileURL } from "node:url";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { launch, watchedPage } from "./headless.mjs";

const [file, folder] = process.argv.slice(2);
const found = { schemes: {}, tables: [], players: [] };

/** Return the texts of the first column, body by body. */
const rowsOf = (table) => table.evaluate((t) =>
  [...t.tBodies].map((b) => [...b.rows].map((r) => r.cells[0].textContent)));

/** Sort a table by every heading, with the mouse and with the keyboard. */
async function tryTable(table, page) {
  const columns = [];
  const before = await rowsOf(table);
  for (const button of await table.$$("thead button")) {
    const head = await button.evaluateHandle((b) => b.closest("th"));
    const state = async () => ({
      sort: await head.evaluate((h) => h.getAttribute("aria-sort")),
      values: await head.evaluate((h) => [...h.closest("table").tBodies[0].rows]
        .map((r) => r.cells[h.cellIndex].firstChild?.textContent ?? "")),
    });
    await button.click();
    const up = await state();
    await button.focus();
    await page.keyboard.press("Enter");
    columns.push({ up, down: await state() });
  }
  const sorted = await table.$$eval("th[aria-sort]", (heads) => heads.length);
  found.tables.push({ before, after: await rowsOf(table), columns, sorted });
}

/** Move a slider with the keyboard, and let it play. */
async function tryPlayer(figure, page) {
  // At once: it may be playing.
  const seen = async () => {
    const now = await figure.evaluate((f) => {
      const shown = [...f.querySelectorAll(".frames img")]
        .filter((i) => i.checkVisibility());
      return {
        count: shown.length,
        picture: shown[0].src,
        time: shown[0].dataset.time,
        said: f.querySelector("output").textContent,
        value: f.querySelector("input").valueAsNumber,
        label: f.querySelector(".controls button").textContent,
      };
    });
    return { ...now, picture: createHash("sha256").update(now.picture).digest("hex") };
  };
  const slider = await figure.$("input[type=range]");
  const steps = { start: await seen() };
  await slider.focus();
  await page.keyboard.press("ArrowRight");
  steps.right = await seen();
  await page.keyboard.press("End");
  steps.end = await seen();
  const button = await figure.$(".controls button");
  await button.focus();
  await page.keyboard.press("Space");
  // It begins at the first frame, and goes on by itself.
  await page.waitForFunction((f) => f.querySelector("input").valueAsNumber > 0, {},
    figure);
  steps.playing = await seen();
  // At once, for it may come to its end: a click changes what the button says.
  steps.toggled = await button.evaluate((b) => {
    const before = b.textContent;
    b.click();
    return [before, b.textContent];
  });
  const frames = await figure.$$eval(".frames img", (all) => all.length);
  found.players.push({ frames, ...steps });
}

/** Return what Tab comes to, and all that it should come to, in their order. */
async function tabOrder(page) {
  await page.evaluate(() => {
    window.stops = [...document.querySelectorAll("a[href], button, input, summary")]
      .filter((e) => e.checkVisibility());
    document.activeElement.blur();
    window.scrollTo(0, 0);
  });
  const reached = [];
  const total = await page.evaluate(() => window.stops.length);
  for (let number = 0; number < total; number += 1) {
    await page.keyboard.press("Tab");
    reached.push(await page.evaluate(() => {
      const e = document.activeElement;
      const style = getComputedStyle(e);
      return [window.stops.indexOf(e), parseFloat(style.outlineWidth) > 0];
    }));
  }
  return reached;
}

const browser = await launch();
try {
  const { page, errors, requests } = await watchedPage(browser);
  Object.assign(found, { errors, requests });
  await page.goto(pathToFileURL(file).href);
  for (const scheme of ["light", "dark"]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await page.screenshot({ path: join(folder, `${scheme}.png`), fullPage: true });
    found.schemes[scheme] = await page.evaluate(() => {
      const style = getComputedStyle(document.body);
      return [style.backgroundColor, style.color];
    });
  }
  found.order = await tabOrder(page);
  for (const table of await page.$$("table")) await tryTable(table, page);
  for (const figure of await page.$$("figure.player")) await tryPlayer(figure, page);
  await page.screenshot({ path: join(folder, "used.png"), fullPage: true });
  await page.setViewport({ width: 400, height: 800 });
  found.overflow = await page.evaluate(() =>
    document.documentElement.scrollWidth - document.documentElement.clientWidth);
  await page.screenshot({ path: join(folder, "narrow.png") });
} finally {
  await browser.close();
}
console.log(JSON.stringify(found));
