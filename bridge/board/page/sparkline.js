/**
 * A small line of how one figure went in the last two minutes.
 *
 * Owns what is remembered for it and its drawing. It says nothing that the figure's
 * text doesn't, so it is hidden from whoever reads aloud.
 *
 * @module
 */

import { drawn } from "./elements.js";

const SPAN_MS = 120_000;
/** A point a second: the server sends figures more often when jobs change. */
const STEP_MS = 1_000;
/** Longer ago than this a line would claim what nobody saw. */
const BREAK_MS = 5_000;

const WIDTH = 120;
const HEIGHT = 24;
/** Half of the stroke, so that neither zero nor the top is cut. */
const MARGIN = 1;

export class Sparkline {
  /** @type {{ms: number, value: number}[]} */
  #points = [];
  #path = drawn("path");

  constructor() {
    this.element = drawn("svg", {
      class: "sparkline",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.element.append(this.#path);
  }

  /**
   * @param {number} ms
   * @param {number | null} value
   */
  add(ms, value) {
    const last = this.#points.at(-1);
    // A server that was set back in time begins anew.
    if (last && ms < last.ms) this.#points = [];
    else if (last && ms - last.ms < STEP_MS) return;
    if (value !== null) this.#points.push({ ms, value });
    this.#points = this.#points.filter((point) => ms - point.ms <= SPAN_MS);
    this.#draw(ms);
  }

  /** @param {number} now */
  #draw(now) {
    const top = Math.max(...this.#points.map((point) => point.value), 1e-9);
    let before = -Infinity;
    const steps = this.#points.map(({ ms, value }) => {
      const command = ms - before > BREAK_MS ? "M" : "L";
      before = ms;
      const x = WIDTH * (1 - (now - ms) / SPAN_MS);
      const y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (value / top);
      return `${command}${x.toFixed(1)} ${y.toFixed(1)}`;
    });
    this.#path.setAttribute("d", steps.join(""));
  }
}
