/**
 * The figures at the top, with the last two minutes of those that vary.
 *
 * @module
 */

import { element, html, setText } from "./elements.js";

/** @import { Figures as Counted } from "./model.js" */

const WHOLE = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
/** Above it, digits that change too fast to be read are left out. */
const WHOLE_UP_TO = 99_999;

const SPAN_MS = 120_000;
/** A point a second, however often figures come. */
const STEP_MS = 1_000;
/** Over a longer pause no line is drawn: nothing was seen. */
const BREAK_MS = 5_000;
const WIDTH = 120;
const HEIGHT = 24;

/** @param {number} value */
function count(value) {
  return (value > WHOLE_UP_TO ? SHORT : WHOLE).format(value);
}

/** @param {number} value */
function rate(value) {
  return value < 100 ? value.toFixed(1) : count(Math.round(value));
}

/** @param {number | null} ms */
function latency(ms) {
  if (ms === null) return "–";
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${rate(ms / 1000)} s`;
}

/** @type {[name: string, title: string, format: (value: any) => string, member: keyof Counted, hasLine: boolean][]} */
const FIGURES = [
  ["Events / s", "Events written to the topic a second", rate, "events_per_second", true],
  ["Latency p50", "Half of the events reached this board within this time after the bridge received them", latency, "latency_p50_ms", true],
  ["Latency p99", "99 of 100 events reached this board within this time after the bridge received them", latency, "latency_p99_ms", true],
  ["In flight", "Jobs that have started and not ended", count, "in_flight", true],
  ["Jobs seen", "Jobs that the board has read since it started", count, "seen", false],
  ["Lag", "Records that the board has yet to read", count, "lag", false],
];

export class Figures {
  #shown = FIGURES.map(([name, title, format, member, hasLine]) => {
    const row = element("div");
    row.title = title;
    const value = element("span", "–");
    value.className = "value";
    const definition = element("dd");
    definition.append(value);
    const line = hasLine ? new Sparkline() : null;
    if (line) definition.append(line.element);
    row.append(element("dt", name), definition);
    html(document, "#figures").append(row);
    return { value, format, member, line };
  });

  /** @param {Counted | null} figures */
  show(figures) {
    if (!figures) return;
    for (const { value, format, member, line } of this.#shown) {
      setText(value, format(figures[member]));
      line?.add(figures.now_ms, /** @type {number | null} */ (figures[member]));
    }
  }
}

/** It shows nothing that the figure's text doesn't, so screen readers skip it. */
class Sparkline {
  /** @type {{ms: number, value: number}[]} */
  #points = [];
  #path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  element = document.createElementNS("http://www.w3.org/2000/svg", "svg");

  constructor() {
    this.element.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.element.setAttribute("preserveAspectRatio", "none");
    this.element.setAttribute("aria-hidden", "true");
    this.element.append(this.#path);
  }

  /**
   * @param {number} now
   * @param {number | null} value
   */
  add(now, value) {
    const last = this.#points.at(-1);
    if (last && now >= last.ms && now - last.ms < STEP_MS) return;
    // A server whose clock was set back starts again.
    this.#points = this.#points.filter(({ ms }) => ms <= now && now - ms <= SPAN_MS);
    if (value !== null) this.#points.push({ ms: now, value });
    const top = Math.max(...this.#points.map((point) => point.value), 1e-9);
    let before = -Infinity;
    const steps = this.#points.map(({ ms, value }) => {
      const command = ms - before > BREAK_MS ? "M" : "L";
      before = ms;
      // One unit at both ends, so that no stroke is cut.
      const y = HEIGHT - 1 - (HEIGHT - 2) * (value / top);
      return `${command}${(WIDTH * (1 - (now - ms) / SPAN_MS)).toFixed(1)} ${y.toFixed(1)}`;
    });
    this.#path.setAttribute("d", steps.join(""));
  }
}
