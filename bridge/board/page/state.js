/**
 * What the page says about itself: whether what it shows is current, and if not, why.
 *
 * A sentence changes only with the state, since it is read aloud: so it has times, which
 * stay, and no ages.
 *
 * @module
 */

import { element, html, setAttribute, setIcon, setText } from "./elements.js";
import { moment } from "./time.js";

/** @import { Model } from "./model.js" */
/** @import { Connection } from "./stream.js" */

/** @typedef {{kind: "good" | "wait" | "bad", word: string, text?: string}} State */

/**
 * @param {Connection} connection
 * @param {Model} model
 * @returns {State}
 */
export function stateOf({ name, sinceMs, reason }, model) {
  const since = moment(sinceMs, Date.now());
  switch (name) {
    case "connecting":
      return { kind: "wait", word: "Connecting" };
    case "paused":
      return { kind: "wait", word: "Paused", text: `Paused at ${since}. The page doesn't change until you resume.` };
    case "stale":
      return { kind: "bad", word: "Stale", text: `Nothing received from the board's server since ${since}. The page shows that time.` };
    case "lost":
      return { kind: "bad", word: "Reconnecting", text: `No connection to the board's server since ${since}. The page shows that time and reconnects by itself.` };
    case "refused":
      return { kind: "bad", word: "Refused", text: `${reason || "The board's server refuses the page."} The page tries again by itself.` };
    case "live":
      return readingOf(model);
  }
}

/**
 * @param {Model} model
 * @returns {State}
 */
function readingOf(model) {
  const { figures, topic, sinceMs } = model;
  const note = figures?.note ?? undefined;
  switch (figures?.reading) {
    case "unavailable": {
      const since = figures.unavailable_since_ms ?? sinceMs;
      const text = `Kafka has been unavailable since ${moment(since, model.now())}. The page shows that time; the board continues when Kafka is back.`;
      return { kind: "bad", word: "Kafka unavailable", text: note ? `${text} ${note}` : text };
    }
    case "starting":
      return { kind: "wait", word: "Starting", text: note ?? `Looking for the topic ${topic}.` };
    case "catching-up":
      return { kind: "wait", word: "Catching up", text: note ?? `Reading records since ${moment(sinceMs, model.now())}. The page isn't current yet.` };
    default:
      return { kind: note ? "wait" : "good", word: "Live", text: note };
  }
}

/** @param {State} state */
export function showState({ kind, word, text }) {
  const corner = html(document, "#state");
  setAttribute(corner, "data-kind", kind);
  setIcon(corner, kind);
  setText(html(corner, "span"), word);
  const notice = html(document, "#notice");
  setAttribute(notice, "data-kind", kind);
  if (text === (notice.textContent || undefined)) return;
  notice.replaceChildren(...(text ? [element("p", text)] : []));
}

/**
 * Where no job is shown: why, and what to do.
 *
 * @param {boolean} isEmpty
 * @param {Connection} connection
 * @param {Model} model
 * @param {boolean} isFiltered
 */
export function showEmpty(isEmpty, connection, model, isFiltered) {
  const box = html(document, "#empty");
  box.hidden = !isEmpty;
  if (!isEmpty) return;
  const [headline, shows] = emptyText(connection, model, isFiltered);
  setText(html(box, "p"), headline);
  html(box, ".help").hidden = shows !== "help";
  html(box, "button").hidden = shows !== "clear";
}

/**
 * @param {Connection} connection
 * @param {Model} model
 * @param {boolean} isFiltered
 * @returns {[headline: string, shows?: "help" | "clear"]}
 */
function emptyText(connection, model, isFiltered) {
  if (!model.known) {
    if (connection.name === "connecting") return ["Connecting to the board's server …"];
    if (connection.name === "refused") return ["The board's server accepts no more pages at the moment."];
    return ["The board's server doesn't respond. Is bridge board still running?"];
  }
  if (isFiltered) return ["No job matches the filter.", "clear"];
  switch (model.figures?.reading) {
    case "unavailable":
      return ["Kafka is unavailable, and nothing was read before."];
    case "starting":
      return ["Opening the topics …"];
    case "catching-up":
      return ["Reading the topics …"];
    default:
      return [`No job on the topic ${model.topic} since ${moment(model.sinceMs, model.now())}.`, "help"];
  }
}
