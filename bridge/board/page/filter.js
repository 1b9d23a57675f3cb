/**
 * The filter: its form, and its part of the page's address. So a page that is reloaded, or
 * opened by another reader, shows the same.
 *
 * @module
 */

import { fromTemplate, html, part, setIcon } from "./elements.js";

/** @import { Job } from "./model.js" */

/** The statuses of a job, in their order, as words. */
export const STATUSES = new Map([
  ["pending", "Pending"],
  ["processing", "Processing"],
  ["in_progress", "In progress"],
  ["done", "Done"],
  ["error", "Error"],
]);

/** No record on the topic has it: it is shown if one does, and can't be chosen. */
const NOT_CHOSEN = "pending";

export class Filter {
  #form = part(document, "#filter", HTMLFormElement);
  #id = part(this.#form, "#filter-id", HTMLInputElement);
  #clear = html(this.#form, "#filter-clear");
  #boxes = [...STATUSES.keys()].filter((status) => status !== NOT_CHOSEN).map((status) => this.#addBox(status));
  #text = "";
  /** @type {string[]} */
  #statuses = [];

  /** @param {() => void} onChange */
  constructor(onChange) {
    const query = new URLSearchParams(location.search);
    const statuses = (query.get("status") ?? "").split(",");
    this.#id.value = query.get("id") ?? "";
    for (const box of this.#boxes) box.checked = statuses.includes(box.value);
    this.#read();
    this.#form.addEventListener("input", () => {
      this.#read();
      this.#writeAddress();
      onChange();
    });
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#clear.addEventListener("click", () => {
      this.clear();
      this.#id.focus();
    });
  }

  /** Whether it excludes anything. */
  get isSet() {
    return this.#text !== "" || this.#statuses.length > 0;
  }

  /** @param {Job} job */
  accepts({ id, status = "" }) {
    return id.includes(this.#text) && (this.#statuses.length === 0 || this.#statuses.includes(status));
  }

  clear() {
    this.#id.value = "";
    for (const box of this.#boxes) box.checked = false;
    this.#form.dispatchEvent(new Event("input"));
  }

  /** @param {string} status */
  #addBox(status) {
    const label = fromTemplate("choice");
    const box = part(label, "input", HTMLInputElement);
    box.value = status;
    label.dataset.status = status;
    setIcon(label, status);
    html(label, "span").textContent = STATUSES.get(status) ?? status;
    html(this.#form, "fieldset").append(label);
    return box;
  }

  #read() {
    this.#text = this.#id.value.trim();
    this.#statuses = this.#boxes.filter((box) => box.checked).map((box) => box.value);
    this.#clear.hidden = !this.isSet;
  }

  #writeAddress() {
    const address = new URL(location.href);
    for (const [name, value] of [["id", this.#text], ["status", this.#statuses.join(",")]]) {
      // Only what is set is in the address.
      if (name && value) address.searchParams.set(name, value);
      else address.searchParams.delete(name ?? "");
    }
    history.replaceState(null, "", address);
  }
}
