/**
 * The page: introduces its parts to each other.
 *
 * Owns when something is drawn: what comes is folded into the model at once, and drawn
 * with the browser's next frame, however much came since the last one; ages go on
 * once a second. Each part is told by identity or by text what is new, so that a frame
 * touches only what has changed.
 *
 * @module
 */

import { Connection } from "./connection.js";
import { part, setIcon, setText } from "./elements.js";
import { Figures } from "./figures.js";
import { Filter } from "./filter.js";
import { Gaps } from "./gaps.js";
import { Jobs } from "./jobs.js";
import { Letters } from "./letters.js";
import { Model } from "./model.js";
import { Nothing } from "./nothing.js";
import { Notice, saying } from "./notice.js";
import { ServerClock } from "./time.js";

/** @import { Standing } from "./connection.js" */

const TICK_MS = 1_000;
const WHOLE = new Intl.NumberFormat("en");

const clock = new ServerClock();
const model = new Model();
const notice = new Notice();
const figures = new Figures();
const gaps = new Gaps();
const letters = new Letters();
const jobs = new Jobs();
const nothing = new Nothing(() => filter.clear());
const topic = part(document, "#topic", HTMLElement);
const count = part(document, "#count", HTMLElement);
const pause = part(document, "#pause", HTMLButtonElement);

/** @type {Standing} */
let standing = { name: "connecting", sinceMs: Date.now() };
let isAwaited = false;

const connection = new Connection({
  onSnapshot: (snapshot) => {
    model.begin(snapshot);
    clock.set(snapshot.figures.now_ms);
    drawSoon();
  },
  onUpdate: (update) => {
    model.take(update);
    if (update.figures) clock.set(update.figures.now_ms);
    drawSoon();
  },
  onStanding: (changed) => {
    standing = changed;
    drawSoon();
  },
});

const filter = new Filter((chosen) => {
  connection.open(chosen);
  // Whoever asks for something else wants to see it.
  setPaused(false);
  drawSoon();
});

function drawSoon() {
  if (isAwaited) return;
  isAwaited = true;
  requestAnimationFrame(draw);
}

function draw() {
  isAwaited = false;
  const now = clock.now();
  const said = saying(standing, model, now);
  notice.show(said);
  // What is not live is shown without colour.
  document.body.dataset.kind = said.kind;
  document.title = [said.kind === "good" ? "" : said.word, model.topic, "bridge board"].filter(Boolean).join(" · ");
  nothing.show(model, standing, filter.isSet, now);
  if (!model.known) return;
  setText(topic, model.topic);
  figures.show(model.figures);
  gaps.show(model.gaps, model.sinceMs, now);
  letters.show(model.letters, now);
  setText(count, counted(model.jobs.size, model.matching));
  jobs.show(model.jobs, now);
}

/**
 * @param {number} shown
 * @param {number} matching
 */
function counted(shown, matching) {
  const which = filter.isSet ? " that match" : "";
  if (matching > shown) return `the latest ${WHOLE.format(shown)} of ${WHOLE.format(matching)}${which}`;
  return `${WHOLE.format(shown)}${which}`;
}

function tick() {
  if (!model.known || document.visibilityState === "hidden" || standing.name === "paused") return;
  const now = clock.now();
  gaps.tick(now);
  letters.tick(now);
  jobs.tick(now);
}

/** @param {boolean} isPaused */
function setPaused(isPaused) {
  connection.setPaused(isPaused);
  setIcon(pause, isPaused ? "resume" : "pause");
  setText(part(pause, "span", HTMLElement), isPaused ? "Resume" : "Pause");
}

pause.addEventListener("click", () => setPaused(standing.name !== "paused"));

setInterval(tick, TICK_MS);
connection.open(filter.chosen);
drawSoon();
