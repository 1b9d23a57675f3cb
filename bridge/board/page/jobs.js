/**
 * The grid of jobs, newest first.
 *
 * Owns which cards there are and their order: by when a job began, so that a card keeps
 * its place while events come. What a card says belongs to `card`.
 *
 * @module
 */

import { Card } from "./card.js";
import { copy } from "./copying.js";
import { part } from "./elements.js";

/** @import { Job } from "./protocol.js" */

/** How far outside of the window a picture is fetched ahead. */
const AHEAD = "300px";

export class Jobs {
  #section = part(document, "#jobs", HTMLElement);
  #grid = part(document, "#grid", HTMLElement);
  /** @type {Map<string, Card>} */
  #cards = new Map();
  /** @type {WeakMap<Element, Card>} */
  #byElement = new WeakMap();
  #near = new IntersectionObserver((entries) => this.#look(entries), { rootMargin: AHEAD });

  constructor() {
    this.#grid.addEventListener("click", (event) => {
      const target = event.target instanceof Element ? event.target : null;
      const button = target?.closest("button.copy");
      const card = this.#byElement.get(button?.closest("li") ?? this.#grid);
      if (button && card) void copy(card.job.id, button);
    });
  }

  /**
   * @param {Map<string, Job>} jobs
   * @param {number} now
   */
  show(jobs, now) {
    this.#removeAllBut(jobs);
    const accounts = new Set();
    for (const [id, job] of jobs) {
      accounts.add(job.account);
      const card = this.#cards.get(id) ?? this.#add(job);
      if (card.job !== job || !card.element.isConnected) card.show(job, now);
    }
    // With one account its name on each card would be noise.
    this.#grid.classList.toggle("accounts", accounts.size > 1);
    this.#place([...jobs.values()].sort(byBegin));
  }

  /** @param {number} now */
  tick(now) {
    for (const card of this.#cards.values()) card.tick(now);
  }

  /** @param {Job} job */
  #add(job) {
    const card = new Card(job);
    this.#cards.set(job.id, card);
    this.#byElement.set(card.element, card);
    this.#near.observe(card.element);
    return card;
  }

  /** @param {Map<string, Job>} jobs */
  #removeAllBut(jobs) {
    for (const [id, card] of this.#cards) {
      if (jobs.has(id)) continue;
      // Whoever stood in it would otherwise be thrown back to the page's begin.
      if (card.element.contains(document.activeElement)) {
        this.#section.focus({ preventScroll: true });
      }
      this.#near.unobserve(card.element);
      card.element.remove();
      this.#cards.delete(id);
    }
  }

  /**
   * Put the cards in order. Those that stay never change places among themselves, so
   * only new ones are moved: moving an element takes the focus from it.
   *
   * @param {Job[]} wanted
   */
  #place(wanted) {
    let next = this.#grid.firstElementChild;
    for (const { id } of wanted) {
      const element = this.#cards.get(id)?.element;
      if (!element) continue;
      if (element === next) next = next.nextElementSibling;
      else this.#grid.insertBefore(element, next);
    }
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #look(entries) {
    for (const entry of entries) {
      this.#byElement.get(entry.target)?.setNear(entry.isIntersecting);
    }
  }
}

/**
 * @param {Job} one
 * @param {Job} other
 */
function byBegin(one, other) {
  if (one.first_ms !== other.first_ms) return other.first_ms - one.first_ms;
  return one.id < other.id ? -1 : 1;
}
