// A headless browser, and pages that write down what goes wrong in them.
import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";

// What the package adds would switch off the rules that are tested here.
const unsafe = ["--disable-web-security", "--allow-running-insecure-content"];

/** Return a browser that obeys the rules of one that people use. */
export async function launch() {
  return puppeteer.launch({
    args: chromium.args.filter((word) => !unsafe.includes(word)),
    executablePath: await chromium.executablePath(),
    headless: "shell",
  });
}

/** Return a new page, its errors and warnings, and the addresses that it asks for. */
export async function watchedPage(browser) {
  const page = await browser.newPage();
  const errors = [];
  const requests = [];
  page.on("console", (m) => {
    if (["error", "warn"].includes(m.type())) errors.push(m.text());
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith("data:")) requests.push(url);
  });
  page.on("requestfailed", (request) => errors.push(`no answer: ${request.url()}`));
  await page.setViewport({ width: 1100, height: 900 });
  return { page, errors, requests };
}
