/**
 * What the page says about itself: whether what it shows is true, and if not, why.
 *
 * Owns the words for each state and which of several is told: what is nearest to the
 * reader first. The sentence changes only with the state, since it is read aloud; so it
 * names moments, which stay, and no ages, which don't.
 *
 * @module
 */

import { element, part, setAttribute, setIcon, setText } from "./elements.js";
import { moment } from "./time.js";

/** @import { Standing } from "./connection.js" */
/** @import { Model } from "./model.js" */

/**
 * @typedef {object} Said
 * @property {"good" | "wait" | "bad"} kind
 * @property {string} word For the corner of the page.
 * @property {string} [text] The sentence; without one there is nothing to say.
 */

/**
 * @param {Standing} standing
 * @param {Model} model
 * @param {number} now The server's clock.
 * @returns {Said}
 */
export function saying(standing, model, now) {
  const since = moment(standing.sinceMs, Date.now());
  switch (standing.name) {
    case "connecting":
      return { kind: "wait", word: "Connecting" };
    case "paused":
      return { kind: "wait", word: "Paused", text: `Paused at ${since}: what you see stands still.` };
    case "stale":
      return {
        kind: "bad",
        word: "Stale",
        text: `No word from the board's server since ${since}: what you see is from then.`,
      };
    case "lost":
      return {
        kind: "bad",
        word: "Reconnecting",
        text: `The board's server is away since ${since}. What you see is from then; the page connects again by itself.`,
      };
    case "refused":
      return {
        kind: "bad",
        word: "Refused",
        text: `${standing.reason || "The board's server refuses the page."} The page tries again by itself.`,
      };
    case "live":
      return reading(model, now);
  }
}

/**
 * How the server's own reading stands.
 *
 * @param {Model} model
 * @param {number} now
 * @returns {Said}
 */
function reading({ figures, topic, sinceMs }, now) {
  const note = figures?.note ?? undefined;
  switch (figures?.reading) {
    case "away": {
      const since = figures.away_since_ms;
      const when = since === null ? "" : ` since ${moment(since, now)}`;
      const text = `Kafka is away${when}. What you see is from before; the board reads on by itself when Kafka is back.`;
      return { kind: "bad", word: "Kafka away", text: note ? `${text} ${note}` : text };
    }
    case "starting":
      return { kind: "wait", word: "Starting", text: note ?? `Looking for the topic ${topic}.` };
    case "catching-up": {
      const text = `Reading what was written since ${moment(sinceMs, now)}: not yet at the present.`;
      return { kind: "wait", word: "Catching up", text: note ?? text };
    }
    default:
      return note ? { kind: "wait", word: "Live", text: note } : { kind: "good", word: "Live" };
  }
}

export class Notice {
  #standing = part(document, "#standing", HTMLElement);
  #word = part(this.#standing, "span", HTMLElement);
  #notice = part(document, "#notice", HTMLElement);

  /** @param {Said} said */
  show({ kind, word, text }) {
    setAttribute(this.#standing, "data-kind", kind);
    setIcon(this.#standing, kind);
    setText(this.#word, word);
    setAttribute(this.#notice, "data-kind", kind);
    if (text === (this.#notice.textContent || undefined)) return;
    this.#notice.replaceChildren(...(text ? [element("p", text)] : []));
  }
}
