// Open pages of the site in a headless browser, and print what happened as JSON.
//
//     node check_site.mjs SITE FOLDER-OF-SCREENSHOTS PAGE.html ...
import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { launch, watchedPage } from "./headless.mjs";

const [site, folder, ...names] = process.argv.slice(2);
const found = {};
const browser = await launch();
try {
  for (const name of names) {
    const { page, errors, requests } = await watchedPage(browser);
    await page.goto(pathToFileURL(join(site, name)).href);
    const schemes = {};
    for (const scheme of ["light", "dark"]) {
      await page.emulateMediaFeatures([
        { name: "prefers-color-scheme", value: scheme },
      ]);
      const shot = `${name.replaceAll("/", "-")}.${scheme}.png`;
      await page.screenshot({ path: join(folder, shot), fullPage: true });
      schemes[scheme] = await page.evaluate(() => {
        const style = getComputedStyle(document.body);
        return [style.backgroundColor, style.color];
      });
    }
    // Laid out as formulas: fractions are taller than a line, nothing is empty.
    const formulas = await page.$$eval("math", (all) =>
      all.map((m) => Math.min(m.getBoundingClientRect().width,
        m.getBoundingClientRect().height)));
    const pictures = await page.$$eval("img", (all) => all.map((i) => i.naturalWidth));
    await page.setViewport({ width: 400, height: 800 });
    const overflow = await page.evaluate(() =>
      document.documentElement.scrollWidth - document.documentElement.clientWidth);
    found[name] = { errors, requests, schemes, formulas, pictures, overflow };
    await page.close();
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(found));
