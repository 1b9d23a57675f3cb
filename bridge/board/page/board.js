/**
 * The page. Messages go into the model at once and are drawn with the browser's next
 * frame, however many came since the last one; ages are drawn once a second.
 *
 * @module
 */

import { DeadLetters } from "./dead_letters.js";
import { html, setIcon, setText } from "./elements.js";
import { Figures } from "./figures.js";
import { Filter } from "./filter.js";
import { Gaps } from "./gaps.js";
import { Jobs } from "./jobs.js";
import { Model } from "./model.js";
import { showEmpty, showState, stateOf } from "./state.js";
import { Stream } from "./stream.js";

/** @import { Job } from "./model.js" */
/** @import { Connection } from "./stream.js" */

const TICK_MS = 1_000;
/** More than a wall screen shows. */
const MOST_CARDS = 200;
const WHOLE = new Intl.NumberFormat("en");

const model = new Model();
const filter = new Filter(drawSoon);
const figures = new Figures();
const gaps = new Gaps();
const deadLetters = new DeadLetters();
const jobs = new Jobs();
const pause = html(document, "#pause");

/** @type {Connection} */
let connection = { name: "connecting", sinceMs: Date.now() };
let isAwaited = false;

const stream = new Stream(
  (message, isSnapshot) => {
    model.take(message, isSnapshot);
    drawSoon();
  },
  (state) => {
    connection = state;
    drawSoon();
  },
);

function drawSoon() {
  if (!isAwaited) requestAnimationFrame(draw);
  isAwaited = true;
}

function draw() {
  isAwaited = false;
  const state = stateOf(connection, model);
  showState(state);
  // What isn't current is shown in gray.
  document.body.dataset.kind = state.kind;
  document.title = [state.kind === "good" ? "" : state.word, model.topic, "bridge board"].filter(Boolean).join(" · ");
  const matching = [...model.jobs.values()].filter((job) => filter.accepts(job)).sort(byStart);
  showEmpty(matching.length === 0, connection, model, filter.isSet);
  if (!model.known) return;
  const now = model.now();
  setText(html(document, "#topic"), model.topic);
  figures.show(model.figures);
  gaps.show(model.gaps, model.sinceMs, now);
  deadLetters.show(model.deadLetters, now);
  const shown = matching.slice(0, MOST_CARDS);
  const latest = matching.length > shown.length ? `the latest ${WHOLE.format(shown.length)} of ` : "";
  setText(html(document, "#count"), `${latest}${WHOLE.format(matching.length)}${filter.isSet ? " that match" : ""}`);
  jobs.show(shown, now);
}

/**
 * By when a job started: by its latest event a busy grid would never stand still.
 *
 * @param {Job} one
 * @param {Job} other
 */
function byStart(one, other) {
  return other.first_ms - one.first_ms || (one.id < other.id ? -1 : 1);
}

setInterval(() => {
  if (!model.known || document.visibilityState === "hidden" || stream.isPaused) return;
  for (const each of [gaps, deadLetters, jobs]) each.tick(model.now());
}, TICK_MS);

pause.addEventListener("click", () => {
  stream.isPaused = !stream.isPaused;
  setIcon(pause, stream.isPaused ? "resume" : "pause");
  setText(html(pause, "span"), stream.isPaused ? "Resume" : "Pause");
});

html(document, "#empty button").addEventListener("click", () => filter.clear());
drawSoon();
