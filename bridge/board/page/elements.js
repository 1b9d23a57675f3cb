/**
 * How the page's elements are found, made and filled: with text, never with markup.
 *
 * Owns the only ways in which what the server sent gets into the page. A text node is
 * written only when its text changes, so that a second without news costs no layout.
 *
 * @module
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * A part of the page that is always there.
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
 * A copy of a template's only element.
 *
 * @param {string} id
 * @returns {HTMLElement}
 */
export function fromTemplate(id) {
  const { content } = part(document, `template#${id}`, HTMLTemplateElement);
  return part(/** @type {ParentNode} */ (content.cloneNode(true)), "*", HTMLElement);
}

/**
 * A new element with text in it.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {string} [text]
 * @param {string} [className]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(name, text, className) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/**
 * A new element of a drawing.
 *
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} name
 * @param {Record<string, string>} [attributes]
 * @returns {SVGElementTagNameMap[K]}
 */
export function drawn(name, attributes = {}) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/**
 * One of the page's icons.
 *
 * @param {string} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const made = drawn("svg", { class: "icon", "aria-hidden": "true" });
  made.append(drawn("use", { href: `#icon-${name}` }));
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
 * A text that layout can bear: a hostile one of megabytes is cut.
 *
 * @param {string} text
 * @param {number} [most]
 * @returns {string}
 */
export function cut(text, most = 300) {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}
