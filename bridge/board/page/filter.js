/**
 * The filter: its form, and its place in the page's address.
 *
 * Owns what is chosen. The server filters; a page that is loaded again, or sent to
 * somebody, shows the same.
 *
 * @module
 */

import { fromTemplate, part, setIcon } from "./elements.js";
import { look, STATUSES } from "./statuses.js";

/** @import { Filter as Chosen } from "./protocol.js" */

/** Long enough for the next key, and short enough not to be felt. */
const TYPING_MS = 250;

export class Filter {
  #form = part(document, "#filter", HTMLFormElement);
  #id = part(this.#form, "input[type=search]", HTMLInputElement);
  #clear = part(this.#form, "#filter-clear", HTMLButtonElement);
  #boxes = STATUSES.map((status) => this.#addChoice(status));
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #typing;

  /** @param {(chosen: Chosen) => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    this.#readAddress();
    this.#id.addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#changed(), TYPING_MS);
    });
    this.#form.addEventListener("change", () => this.#changed());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#changed();
    });
    this.#clear.addEventListener("click", () => {
      this.clear();
      this.#id.focus();
    });
  }

  /** @returns {Chosen} */
  get chosen() {
    const boxes = this.#boxes.filter((box) => box.checked);
    return { id: this.#id.value.trim(), status: boxes.map((box) => box.value) };
  }

  /** Whether anything is filtered out. */
  get isSet() {
    const { id, status } = this.chosen;
    return id !== "" || status.length > 0;
  }

  /** Let everything through again. */
  clear() {
    this.#id.value = "";
    for (const box of this.#boxes) box.checked = false;
    this.#changed();
  }

  /** @param {string} status */
  #addChoice(status) {
    const label = fromTemplate("choice");
    const box = part(label, "input", HTMLInputElement);
    const { word, icon } = look(status);
    box.value = status;
    label.dataset.status = status;
    setIcon(label, icon);
    part(label, "span", HTMLElement).textContent = word;
    part(this.#form, "fieldset", HTMLFieldSetElement).append(label);
    return box;
  }

  #readAddress() {
    const query = new URLSearchParams(location.search);
    const statuses = (query.get("status") ?? "").split(",");
    this.#id.value = query.get("id") ?? "";
    for (const box of this.#boxes) box.checked = statuses.includes(box.value);
    this.#clear.hidden = !this.isSet;
  }

  #changed() {
    clearTimeout(this.#typing);
    const { id, status } = this.chosen;
    const address = new URL(location.href);
    // Nothing that isn't set stands in the address.
    if (id) address.searchParams.set("id", id);
    else address.searchParams.delete("id");
    if (status.length) address.searchParams.set("status", status.join(","));
    else address.searchParams.delete("status");
    this.#clear.hidden = !this.isSet;
    if (address.href === location.href) return;
    history.replaceState(null, "", address);
    this.onChange(this.chosen);
  }
}
