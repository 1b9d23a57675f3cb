/**
 * The grid of jobs: a card each, which keeps its place while events come.
 *
 * @module
 */

import { cut, element, fromTemplate, html, part, place, setAttribute, setIcon, setText } from "./elements.js";
import { STATUSES } from "./filter.js";
import { age, length } from "./time.js";

/** @import { Job } from "./model.js" */

/** A running job has an event every few seconds; a longer silence is shown. */
const QUIET_MS = 30_000;

/** How much of an id is laid out; a card shows even less. */
const MOST_ID = 80;

/** How far outside of the window pictures are fetched. */
const AHEAD = "300px";

const COPIED_MS = 1_500;

/** Where the latest event came from, if not from the socket. */
const ORIGINS = new Map([
  ["status-endpoint", "from the status endpoint"],
  ["webhook", "from a webhook"],
  ["replay", "replayed"],
]);

export class Jobs {
  #grid = html(document, "#grid");
  /** @type {Map<string, Card>} */
  #cards = new Map();
  #near = new IntersectionObserver((entries) => this.#onNear(entries), { rootMargin: AHEAD });

  /**
   * @param {Job[]} jobs Newest first.
   * @param {number} now
   */
  show(jobs, now) {
    const before = this.#cards;
    this.#cards = new Map(jobs.map((job) => [job.id, before.get(job.id) ?? this.#add(job)]));
    for (const [id, card] of before) if (!this.#cards.has(id)) this.#remove(card);
    for (const job of jobs) this.#cards.get(job.id)?.show(job, now);
    // With one account its name on each card would be noise.
    const accounts = new Set(jobs.map((job) => job.account));
    this.#grid.classList.toggle("accounts", accounts.size > 1);
    place(this.#grid, [...this.#cards.values()].map((card) => card.element));
  }

  /** @param {number} now */
  tick(now) {
    for (const card of this.#cards.values()) card.tick(now);
  }

  /** @param {Job} job */
  #add(job) {
    const card = new Card(job);
    this.#near.observe(card.element);
    return card;
  }

  /** @param {Card} card */
  #remove(card) {
    // Otherwise the focus would return to the page's beginning.
    if (card.element.contains(document.activeElement)) html(document, "#jobs").focus({ preventScroll: true });
    this.#near.unobserve(card.element);
    card.element.remove();
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #onNear(entries) {
    for (const card of this.#cards.values()) {
      const entry = entries.findLast(({ target }) => target === card.element);
      if (entry) card.picture.setNear(entry.isIntersecting);
    }
  }
}

class Card {
  element = fromTemplate("card");
  picture = new Picture(html(this.element, ".picture"));
  #progress = part(this.element, "progress", HTMLProgressElement);
  #result = part(this.element, ".result", HTMLAnchorElement);
  /** @type {Job | null} */
  #job = null;

  /** @param {Job} job */
  constructor({ id }) {
    const shown = html(this.element, ".id code");
    shown.textContent = cut(id, MOST_ID);
    shown.title = id;
    const button = html(this.element, ".copy");
    button.ariaLabel = `Copy the id ${cut(id, MOST_ID)}`;
    button.addEventListener("click", () => void copy(id, button, shown));
  }

  /**
   * @param {Job} job
   * @param {number} now
   */
  show(job, now) {
    if (job === this.#job) return;
    this.#job = job;
    const status = job.status ?? "";
    const icon = STATUSES.has(status) ? status : "other";
    setAttribute(this.element, "data-status", icon);
    setIcon(html(this.element, ".status"), icon);
    this.#set(".word", cut(STATUSES.get(status) ?? status, MOST_ID));
    html(this.element, ".word").title = job.has_result ? "It has a result" : "";
    const isRunning = job.progress !== undefined && job.ended_ms === undefined;
    this.#progress.hidden = !isRunning;
    this.#progress.value = job.progress ?? 0;
    this.#set(".percent", isRunning ? `${Math.floor(job.progress ?? 0)} %` : "");
    this.picture.show(job);
    this.#set(".account", cut(job.account, MOST_ID));
    this.#set(".origin", ORIGINS.get(job.origin ?? "") ?? "");
    html(this.element, ".error").hidden = !job.error;
    this.#set(".error summary", cut(job.error));
    // The server checks it too; a link that runs script would be this page's fault.
    const address = /^https?:\/\//i.test(job.result_url ?? "") ? job.result_url : undefined;
    this.#result.hidden = !address;
    if (address) setAttribute(this.#result, "href", address);
    else this.#result.removeAttribute("href");
    this.tick(now);
  }

  /** @param {number} now */
  tick(now) {
    const { first_ms = now, last_ms = now, ended_ms } = this.#job ?? {};
    const quiet = now - last_ms;
    const isQuiet = ended_ms === undefined && quiet > QUIET_MS;
    this.#set(".took", ended_ms === undefined ? `for ${age(now - first_ms)}` : `in ${length(ended_ms - first_ms)}`);
    this.#set(".age", ended_ms === undefined ? (isQuiet ? `quiet ${age(quiet)}` : "") : `${age(now - ended_ms)} ago`);
  }

  /**
   * @param {string} selector
   * @param {string} text
   */
  #set(selector, text) {
    setText(html(this.element, selector), text);
  }
}

/** A preview. A picture is fetched while its card is near the window, one at a time, and replaces the last one once it is decoded. */
class Picture {
  #box;
  /** @type {string | undefined} */
  #wanted;
  /** @type {string | undefined} */
  #shown;
  #isLoading = false;
  #isNear = false;

  /** @param {HTMLElement} box */
  constructor(box) {
    this.#box = box;
  }

  /** @param {Job} job */
  show({ id, preview, preview_note, ended_ms }) {
    const note = cut(preview_note);
    const blank = this.#box.querySelector(".blank");
    if (blank) setText(blank, note ? `No preview: ${note}` : `No preview${ended_ms === undefined ? " yet" : ""}`);
    this.#box.title = note;
    // Without a new picture the last one stays. Half of a surrogate pair can't be encoded.
    if (preview) this.#wanted = `previews/${encodeURIComponent(id.toWellFormed())}?v=${preview}`;
    void this.#load();
  }

  /** @param {boolean} isNear */
  setNear(isNear) {
    this.#isNear = isNear;
    void this.#load();
  }

  async #load() {
    if (this.#isLoading) return;
    this.#isLoading = true;
    while (this.#isNear && this.#wanted && this.#wanted !== this.#shown) {
      const address = this.#wanted;
      const image = element("img");
      image.alt = "Latest preview";
      image.src = address;
      try {
        await image.decode();
        this.#box.replaceChildren(image);
        this.#shown = address;
      } catch {
        // It isn't kept any more, is broken, or the board is away: the job's next event
        // has it fetched again.
        if (this.#wanted === address) this.#wanted = this.#shown;
      }
    }
    this.#isLoading = false;
  }
}

/**
 * Copy an id. Without a clipboard (another machine's board, without TLS) it is selected,
 * so that Ctrl-C copies it.
 *
 * @param {string} id
 * @param {HTMLElement} button
 * @param {HTMLElement} shown
 */
async function copy(id, button, shown) {
  const announced = html(document, "#announced");
  try {
    await navigator.clipboard.writeText(id);
  } catch {
    shown.textContent = id;
    getSelection()?.selectAllChildren(shown);
    announced.textContent = "The id is selected: copy it with the keyboard.";
    return;
  }
  setIcon(button, "copied");
  announced.textContent = "The id is copied.";
  setTimeout(() => {
    setIcon(button, "copy");
    announced.textContent = "";
  }, COPIED_MS);
}
