/**
 * What stands where no job is: why there is none, and what to do.
 *
 * @module
 */

import { element, part } from "./elements.js";
import { moment } from "./time.js";

/** @import { Standing } from "./connection.js" */
/** @import { Model } from "./model.js" */

/** A text with code in it: every second piece is code. */
/** @typedef {string[]} Pieces */

export class Nothing {
  #box = part(document, "#nothing", HTMLElement);
  #shown = "";

  /** @param {() => void} onClear Told when the filter shall be cleared. */
  constructor(onClear) {
    this.onClear = onClear;
  }

  /**
   * @param {Model} model
   * @param {Standing} standing
   * @param {boolean} isFiltered
   * @param {number} now
   */
  show(model, standing, isFiltered, now) {
    this.#box.hidden = model.jobs.size > 0;
    if (this.#box.hidden) return;
    const paragraphs = why(model, standing, isFiltered, now);
    const key = JSON.stringify(paragraphs);
    if (key === this.#shown) return;
    this.#shown = key;
    /** @type {HTMLElement[]} */
    const made = paragraphs.map(paragraph);
    if (model.known && isFiltered) made.push(this.#clearButton());
    this.#box.replaceChildren(...made);
  }

  #clearButton() {
    const button = element("button", "Show all jobs");
    button.type = "button";
    button.addEventListener("click", () => this.onClear());
    return button;
  }
}

/**
 * @param {Model} model
 * @param {Standing} standing
 * @param {boolean} isFiltered
 * @param {number} now
 * @returns {Pieces[]} A headline, and what more there is to say.
 */
function why(model, standing, isFiltered, now) {
  if (!model.known) {
    if (standing.name === "connecting") return [["Connecting to the board's server …"]];
    if (standing.name === "refused") return [["The board's server takes no more pages at the moment."]];
    return [["The board's server doesn't answer."], ["Is ", "bridge board", " still running?"]];
  }
  if (isFiltered) return [["No job matches the filter."]];
  switch (model.figures?.reading) {
    case "away":
      return [["Kafka is away, and nothing was read before."]];
    case "starting":
      return [["Opening the topics …"]];
    case "catching-up":
      return [["Reading the topics …"]];
    default:
      return [
        [`No job on the topic `, model.topic, ` since ${moment(model.sinceMs, now)}.`],
        ["To see how it looks, ", "make run", " starts a simulated dryAPI, a bridge and this board."],
        ["With a dryAPI account, ", "bridge check", " says whether a bridge can write to the topic; ", "--since", " lets the board begin earlier."],
      ];
  }
}

/** @param {Pieces} pieces */
function paragraph(pieces) {
  const made = element("p");
  made.append(...pieces.map((piece, at) => (at % 2 ? element("code", piece) : piece)));
  return made;
}
