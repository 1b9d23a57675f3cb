/**
 * Finds, makes and fills elements: with text, never with markup. A text node is written
 * only when its text changes, so that a second without news costs no layout.
 *
 * @module
 */

/**
 * An element that is always there.
 *
 * @template {Element} T
 * @param {ParentNode} within
 * @param {string} selector
 * @param {new () => T} kind
 * @returns {T}
 */
export function part(within, selector, kind) {
  const found = within.querySelector(selector);
  if (!(found instanceof kind)) throw new Error(`the page has no ${selector}`);
  return found;
}

/**
 * @param {ParentNode} within
 * @param {string} selector
 */
export function html(within, selector) {
  return part(within, selector, HTMLElement);
}

/**
 * A copy of a template's only element.
 *
 * @param {string} id
 */
export function fromTemplate(id) {
  const { content } = part(document, `template#${id}`, HTMLTemplateElement);
  return html(/** @type {ParentNode} */ (content.cloneNode(true)), "*");
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

/**
 * @param {Element} within
 * @param {string} name
 */
export function setIcon(within, name) {
  setAttribute(part(within, "use", SVGUseElement), "href", `#icon-${name}`);
}

/**
 * @param {Element} target
 * @param {string} text
 */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/**
 * @param {Element} target
 * @param {string} name
 * @param {string} value
 */
export function setAttribute(target, name, value) {
  if (target.getAttribute(name) !== value) target.setAttribute(name, value);
}

/**
 * Put elements in order. Those that are in place stay: moving one takes its focus.
 *
 * @param {Element} parent
 * @param {Iterable<Element>} wanted
 */
export function place(parent, wanted) {
  let next = parent.firstElementChild;
  for (const each of wanted) {
    if (each === next) next = next.nextElementSibling;
    else parent.insertBefore(each, next);
  }
  while (next) {
    const last = next;
    next = next.nextElementSibling;
    last.remove();
  }
}

/**
 * A text that layout can handle: one of megabytes is cut.
 *
 * @param {string | undefined | null} text
 */
export function cut(text, most = 300) {
  if (!text) return "";
  return text.length > most ? `${text.slice(0, most)}…` : text;
}
