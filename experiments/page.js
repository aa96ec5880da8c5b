"use strict";
// Tables that a click sorts, and frames that a slider shows. The page is whole without
// it: tables have an order, and of a rollout the last frame is there.

/** Return the number that a text begins with, or NaN. */
function numberIn(text) {
  return text.startsWith("∞") ? Infinity : parseFloat(text);
}

/** Return what a cell says, without the smaller remark below it. */
function textOf(row, column) {
  return (row.cells[column].firstChild?.textContent ?? "").trim();
}

/** Order two texts: numbers by size, other texts by letters, after the numbers. */
function compare(a, b) {
  const [x, y] = [numberIn(a), numberIn(b)];
  if (Number.isNaN(x) && Number.isNaN(y)) return a.localeCompare(b);
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
  return x === y ? 0 : x - y;
}

/** Sort the first body of a table by a column; what has no number stays last. */
function sort(table, column, upwards) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [textOf(row, column), row]);
  const sign = upwards ? 1 : -1;
  const areNumbers = rows.some(([text]) => !Number.isNaN(numberIn(text)));
  rows.sort(([a], [b]) => {
    const missing = areNumbers && Number.isNaN(numberIn(a) + numberIn(b));
    return (missing ? 1 : sign) * compare(a, b);
  });
  body.append(...rows.map(([, row]) => row));
}

/** Put a button into every heading of a table. */
function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const upwards = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", upwards ? "ascending" : "descending");
      sort(table, column, upwards);
    });
  });
}

/** Let a slider and a button choose which frame of a figure is seen. */
function makePlayer(figure) {
  const frames = [...figure.querySelectorAll(".frames img")];
  const slider = figure.querySelector("input");
  const button = figure.querySelector("button");
  const output = figure.querySelector("output");
  let timer = null;

  function show() {
    const shown = slider.valueAsNumber;
    frames.forEach((frame, number) => { frame.hidden = number !== shown; });
    output.textContent = frames[shown].dataset.time;
    slider.setAttribute("aria-valuetext", frames[shown].dataset.time);
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  }

  function advance() {
    if (slider.valueAsNumber === frames.length - 1) return stop();
    slider.stepUp();
    show();
  }

  slider.addEventListener("input", () => { stop(); show(); });
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    if (slider.valueAsNumber === frames.length - 1) slider.value = 0;
    show();
    button.textContent = "Pause";
    timer = setInterval(advance, 160);
  });
  slider.value = 0;
  show();
  figure.querySelector(".controls").hidden = false;
}

document.querySelectorAll("table").forEach(makeSortable);
document.querySelectorAll("figure.player").forEach(makePlayer);
