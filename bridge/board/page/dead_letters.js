/**
 * Dead letters: each reason with its count and one example.
 *
 * @module
 */

import { cut, fromTemplate, html, place, setText } from "./elements.js";
import { age } from "./time.js";

/** @import { Reason } from "./model.js" */

const WHOLE = new Intl.NumberFormat("en");

export class DeadLetters {
  /** @type {Reason[] | null} */
  #reasons = null;
  /** @type {Map<string, HTMLElement>} A row stays open or closed while its count grows. */
  #rows = new Map();

  /**
   * @param {Reason[]} reasons
   * @param {number} now
   */
  show(reasons, now) {
    if (reasons === this.#reasons) return;
    this.#reasons = reasons;
    const count = reasons.reduce((sum, each) => sum + each.count, 0);
    setText(html(document, "#dead-letters-summary"), count ? `${WHOLE.format(count)} by reason` : "none");
    const before = this.#rows;
    this.#rows = new Map(reasons.map(({ reason }) => [reason, before.get(reason) ?? fromTemplate("reason")]));
    for (const { reason, count, id, text, error } of reasons) {
      this.#set(reason, ".name", cut(reason, 100));
      this.#set(reason, ".number", WHOLE.format(count));
      this.#set(reason, ".error", cut(error, 1000));
      this.#set(reason, ".job", id === null ? "none found in it" : cut(id));
      this.#set(reason, ".text", cut(text, 1000));
    }
    place(html(document, "#reasons"), this.#rows.values());
    this.tick(now);
  }

  /** @param {number} now */
  tick(now) {
    for (const { reason, last_ms } of this.#reasons ?? []) this.#set(reason, ".last", `last ${age(now - last_ms)} ago`);
  }

  /**
   * @param {string} reason
   * @param {string} selector
   * @param {string} text
   */
  #set(reason, selector, text) {
    const row = this.#rows.get(reason);
    if (row) setText(html(row, selector), text);
  }
}
