/**
 * Dead letters: each reason with its count and one example.
 *
 * @module
 */

import { cut, fromTemplate, part, setText } from "./elements.js";
import { age } from "./time.js";

/** @import { Letters as Reason } from "./protocol.js" */

const WHOLE = new Intl.NumberFormat("en");

/** One reason; stays open or closed while its count grows. */
class Row {
  element = fromTemplate("reason");
  #number = part(this.element, ".number", HTMLElement);
  #last = part(this.element, ".last", HTMLElement);
  #error = part(this.element, ".error", HTMLElement);
  #job = part(this.element, ".job", HTMLElement);
  #text = part(this.element, ".text", HTMLElement);
  #lastMs = 0;

  /** @param {string} reason */
  constructor(reason) {
    part(this.element, ".name", HTMLElement).textContent = cut(reason, 100);
    this.#text.setAttribute("aria-label", `One of them: ${cut(reason, 100)}`);
    this.#text.setAttribute("role", "group");
  }

  /** @param {Reason} letters */
  show({ count, last_ms, example }) {
    this.#lastMs = last_ms;
    setText(this.#number, WHOLE.format(count));
    setText(this.#error, cut(example.error, 1000));
    setText(this.#job, example.id === null ? "none could be found in it" : cut(example.id));
    setText(this.#text, cut(example.text, 1000));
  }

  /** @param {number} now */
  tick(now) {
    setText(this.#last, `last ${age(now - this.#lastMs)} ago`);
  }
}

export class Letters {
  #summary = part(document, "#letters-summary", HTMLElement);
  #list = part(document, "#reasons", HTMLElement);
  /** @type {Map<string, Row>} */
  #rows = new Map();
  /** @type {Reason[] | null} */
  #last = null;

  /**
   * @param {Reason[]} letters
   * @param {number} now
   */
  show(letters, now) {
    if (letters === this.#last) return;
    this.#last = letters;
    const count = letters.reduce((sum, each) => sum + each.count, 0);
    setText(this.#summary, count ? `${WHOLE.format(count)} by reason` : "none");
    const before = this.#rows;
    this.#rows = new Map();
    for (const each of letters) {
      const row = before.get(each.reason) ?? new Row(each.reason);
      row.show(each);
      row.tick(now);
      this.#rows.set(each.reason, row);
    }
    this.#place();
  }

  /** @param {number} now */
  tick(now) {
    for (const row of this.#rows.values()) row.tick(now);
  }

  /** Put the rows in order; what stands right stays, and with it the focus. */
  #place() {
    const wanted = [...this.#rows.values()].map((row) => row.element);
    const standing = [...this.#list.children];
    if (wanted.length === standing.length && wanted.every((row, at) => row === standing[at])) return;
    this.#list.replaceChildren(...wanted);
  }
}
