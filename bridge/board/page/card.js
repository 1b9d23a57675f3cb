/**
 * One job's card.
 *
 * Owns what is said of a job, and its changes over time. Where the card stands among the
 * others belongs to `jobs`.
 *
 * @module
 */

import { cut, fromTemplate, part, setAttribute, setIcon, setText } from "./elements.js";
import { Picture } from "./picture.js";
import { look } from "./statuses.js";
import { age, length } from "./time.js";

/** @import { Job } from "./protocol.js" */

/** An event comes every few seconds while a job goes on; this is worth a word. */
const QUIET_MS = 30_000;

/** Who told the last event, where it wasn't the socket. */
const ORIGINS = new Map([
  ["status-endpoint", "told by the status endpoint"],
  ["webhook", "told by a webhook"],
  ["replay", "replayed"],
]);

/** How much of an id is laid out; its end is cut off by the card's width anyway. */
const MOST_ID = 80;

export class Card {
  element = fromTemplate("card");
  #picture = new Picture(part(this.element, ".picture", HTMLElement));
  #progress = part(this.element, "progress", HTMLProgressElement);
  #status = part(this.element, ".status", HTMLElement);
  #word = part(this.element, ".word", HTMLElement);
  #percent = part(this.element, ".percent", HTMLElement);
  #took = part(this.element, ".took", HTMLElement);
  #age = part(this.element, ".age", HTMLElement);
  #account = part(this.element, ".account", HTMLElement);
  #origin = part(this.element, ".origin", HTMLElement);
  #fault = part(this.element, ".fault", HTMLButtonElement);
  #result = part(this.element, ".result", HTMLAnchorElement);

  /** @param {Job} job */
  constructor(job) {
    this.job = job;
    const id = part(this.element, ".id code", HTMLElement);
    id.textContent = cut(job.id, MOST_ID);
    id.title = job.id;
    const copy = part(this.element, ".copy", HTMLButtonElement);
    copy.ariaLabel = `Copy the id ${cut(job.id, MOST_ID)}`;
    copy.title = "Copy the id";
    this.#fault.addEventListener("click", () => {
      const isOpen = this.#fault.ariaExpanded === "true";
      this.#fault.ariaExpanded = String(!isOpen);
    });
  }

  /**
   * @param {Job} job
   * @param {number} now
   */
  show(job, now) {
    this.job = job;
    const { word, icon } = look(job.status);
    setAttribute(this.element, "data-status", icon);
    setIcon(this.#status, icon);
    setText(this.#word, cut(word, MOST_ID));
    this.#word.title = job.has_result ? "It has a result" : "";
    this.#showProgress(job);
    this.#picture.show(job);
    setText(this.#account, cut(job.account ?? "", MOST_ID));
    setText(this.#origin, ORIGINS.get(job.origin) ?? "");
    this.#fault.hidden = !job.error;
    setText(part(this.#fault, "span", HTMLElement), cut(job.error ?? ""));
    this.#showResult(job.result_url);
    this.tick(now);
  }

  /** @param {number} now */
  tick(now) {
    const { first_ms, last_ms, ended_ms } = this.job;
    if (ended_ms !== null) {
      setText(this.#took, `in ${length(ended_ms - first_ms)}`);
      setText(this.#age, `${age(now - ended_ms)} ago`);
    } else {
      const quiet = now - last_ms;
      setText(this.#took, `for ${age(now - first_ms)}`);
      setText(this.#age, quiet > QUIET_MS ? `quiet ${age(quiet)}` : "");
    }
  }

  /** @param {boolean} near */
  setNear(near) {
    this.#picture.setNear(near);
  }

  /** @param {Job} job */
  #showProgress({ progress, ended_ms }) {
    const isShown = progress !== null && ended_ms === null;
    this.#progress.hidden = !isShown;
    setText(this.#percent, isShown ? `${Math.floor(progress)} %` : "");
    if (isShown) this.#progress.value = progress;
  }

  /** @param {string | null} address */
  #showResult(address) {
    // The server says so already; a link that runs script would be this page's fault.
    const isSafe = address !== null && /^https?:\/\//i.test(address);
    this.#result.hidden = !isSafe;
    if (isSafe) setAttribute(this.#result, "href", address);
    else this.#result.removeAttribute("href");
  }
}
