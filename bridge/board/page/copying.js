/**
 * An id onto the clipboard.
 *
 * @module
 */

import { part, setIcon } from "./elements.js";

/** How long the button shows that it worked. */
const SHOWN_MS = 1_500;

/**
 * Copy a text. Where a page has no clipboard (another machine's board, without TLS),
 * the id beside the button is marked, so that Ctrl-C takes it.
 *
 * @param {string} text
 * @param {Element} button Shows that it worked.
 */
export async function copy(text, button) {
  const told = part(document, "#aside", HTMLElement);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const shown = button.previousElementSibling;
    if (shown) {
      // All of it, though the card has room for its beginning only.
      shown.textContent = text;
      getSelection()?.selectAllChildren(shown);
    }
    told.textContent = "The id is marked: copy it with the keyboard.";
    return;
  }
  setIcon(button, "copied");
  told.textContent = "The id is copied.";
  setTimeout(() => {
    setIcon(button, "copy");
    told.textContent = "";
  }, SHOWN_MS);
}
