/**
 * The figures at the top, with the last minutes of those that move.
 *
 * Owns which there are, their names and their formats. They are counted by the server.
 *
 * @module
 */

import { element, part, setText } from "./elements.js";
import { Sparkline } from "./sparkline.js";

/** @import { Figures as Counted } from "./protocol.js" */

const WHOLE = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** Above it, digits that change too fast to be read are left out. */
const WHOLE_UP_TO = 99_999;

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

/**
 * @typedef {object} Figure
 * @property {string} name
 * @property {string} title What it counts, at length.
 * @property {(figures: Counted) => string} text
 * @property {(figures: Counted) => number | null} [line] What is drawn of it.
 */

/** @type {Figure[]} */
const FIGURES = [
  {
    name: "Events / s",
    title: "Events that were written to the topic in the last seconds, for each second",
    text: (figures) => rate(figures.events_per_second),
    line: (figures) => figures.events_per_second,
  },
  {
    name: "Latency p50",
    title: "Half of the events reached this board faster than this after the bridge had read them",
    text: (figures) => latency(figures.latency_p50_ms),
    line: (figures) => figures.latency_p50_ms,
  },
  {
    name: "Latency p99",
    title: "99 of 100 events reached this board faster than this after the bridge had read them",
    text: (figures) => latency(figures.latency_p99_ms),
    line: (figures) => figures.latency_p99_ms,
  },
  {
    name: "In flight",
    title: "Jobs that have begun and have not ended",
    text: (figures) => count(figures.in_flight),
    line: (figures) => figures.in_flight,
  },
  {
    name: "Jobs seen",
    title: "Jobs that the board has read of since it started",
    text: (figures) => count(figures.seen),
  },
  {
    name: "Lag",
    title: "Records on the topics that the board has yet to read",
    text: (figures) => count(figures.lag),
  },
];

export class Figures {
  #list = part(document, "#figures", HTMLElement);
  #shown = FIGURES.map((figure) => this.#add(figure));
  /** @type {Counted | null} */
  #last = null;

  /** @param {Figure} figure */
  #add(figure) {
    const row = element("div");
    row.title = figure.title;
    const value = element("span", "–", "value");
    const definition = element("dd");
    definition.append(value);
    const line = figure.line && new Sparkline();
    if (line) definition.append(line.element);
    row.append(element("dt", figure.name), definition);
    this.#list.append(row);
    return { figure, value, line };
  }

  /** @param {Counted | null} figures */
  show(figures) {
    if (!figures || figures === this.#last) return;
    this.#last = figures;
    for (const { figure, value, line } of this.#shown) {
      setText(value, figure.text(figures));
      line?.add(figures.now_ms, figure.line?.(figures) ?? null);
    }
  }
}
