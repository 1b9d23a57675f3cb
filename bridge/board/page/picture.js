/**
 * A job's preview: each sharper one takes the place of the last without a flicker.
 *
 * Owns the loading. A picture is fetched while the card is near the window, one at a
 * time, and shown only when it has been decoded; what came meanwhile is skipped.
 *
 * @module
 */

import { cut, element, part, setText } from "./elements.js";
import { previewAddress } from "./protocol.js";

/** @import { Job } from "./protocol.js" */

/**
 * What stands where no picture is.
 *
 * @param {Job} job
 * @returns {string}
 */
function blank(job) {
  if (job.preview_note) return `No preview: ${cut(job.preview_note)}`;
  return job.ended_ms === null ? "No preview yet" : "No preview";
}

export class Picture {
  #box;
  #blank;
  /** @type {string | null} */
  #wanted = null;
  /** @type {string | null} */
  #shown = null;
  #loading = false;
  #near = false;

  /** @param {HTMLElement} box */
  constructor(box) {
    this.#box = box;
    this.#blank = part(box, ".blank", HTMLElement);
  }

  /** @param {Job} job */
  show(job) {
    setText(this.#blank, blank(job));
    // Beside a picture it says why no newer one came.
    this.#box.title = job.preview_note ? cut(job.preview_note) : "";
    // A picture that the job had stays: it is still what was seen last.
    if (job.preview) this.#wanted = previewAddress(job.id, job.preview);
    void this.#load();
  }

  /** @param {boolean} near Whether the card is in the window, or almost. */
  setNear(near) {
    this.#near = near;
    void this.#load();
  }

  async #load() {
    if (this.#loading) return;
    this.#loading = true;
    while (this.#near && this.#wanted !== null && this.#wanted !== this.#shown) {
      const address = this.#wanted;
      const image = element("img");
      image.alt = "Latest preview";
      image.src = address;
      try {
        await image.decode();
        this.#box.replaceChildren(image);
        this.#shown = address;
      } catch {
        // It was let go meanwhile, is no picture, or the board is away: what is shown
        // stays, and the job's next word has it fetched again.
        if (this.#wanted === address) this.#wanted = this.#shown;
      }
    }
    this.#loading = false;
  }
}
