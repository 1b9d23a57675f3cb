/**
 * A gap in words: what became of it, how long it was, and all of it in a sentence.
 *
 * Owns the words; they are those of `bridge gaps`. Where a gap stands on the page is for
 * `gaps` and `timeline`.
 *
 * @module
 */

import { cut } from "./elements.js";
import { age, length, moment } from "./time.js";

/** @import { Gap } from "./protocol.js" */

/**
 * @typedef {object} Outcome
 * @property {"open" | "closed" | "settled" | "unknown"} kind
 * @property {string} icon
 * @property {string} word
 */

/**
 * What became of it.
 *
 * @param {Gap} gap
 * @returns {Outcome}
 */
export function outcome(gap) {
  if (gap.until_ms === null) return { kind: "open", icon: "wait", word: "open" };
  if (!gap.settled) return { kind: "closed", icon: "wait", word: "closed, being healed" };
  if (gap.unknown) return { kind: "unknown", icon: "bad", word: `${gap.unknown} unknown` };
  const healed = healedOf(gap);
  return { kind: "settled", icon: "copied", word: healed ? `${healed} healed` : "no job unknown" };
}

/** @param {Gap} gap */
export function healedOf(gap) {
  return (gap.healed_by_status_endpoint ?? 0) + (gap.healed_by_webhook ?? 0);
}

/**
 * @param {Gap} gap
 * @param {number} now
 * @returns {string}
 */
export function lengthOf({ since_ms, until_ms }, now) {
  if (since_ms === null) return "unknown";
  return until_ms === null ? `${age(now - since_ms)} so far` : length(until_ms - since_ms);
}

/**
 * All of it, for whoever points at it.
 *
 * @param {Gap} gap
 * @param {number} now
 * @returns {string}
 */
export function sentence(gap, now) {
  const parts = [cut(gap.cause, 60), `${interval(gap, now)} (${lengthOf(gap, now)})`];
  if (gap.jobs_in_flight !== null) parts.push(`${jobs(gap.jobs_in_flight)} in flight`);
  parts.push(outcome(gap).word);
  if (gap.unknown && healedOf(gap)) parts.push(`${healedOf(gap)} healed`);
  if (gap.account) parts.push(`account ${cut(gap.account, 60)}`);
  return parts.join(" · ");
}

/**
 * The same in the words that don't change with time alone.
 *
 * @param {Gap} gap
 * @param {number} now
 * @returns {string}
 */
export function label(gap, now) {
  return `${cut(gap.cause, 60)}, ${interval(gap, now)}, ${outcome(gap).word}`;
}

/**
 * @param {Gap} gap
 * @param {number} now
 */
function interval({ since_ms, until_ms }, now) {
  if (since_ms === null) return until_ms === null ? "at no known time" : `until ${moment(until_ms, now)}`;
  const since = moment(since_ms, now);
  return until_ms === null ? `since ${since}` : `${since} – ${moment(until_ms, now)}`;
}

/** @param {number} count */
function jobs(count) {
  return count === 1 ? "1 job" : `${count} jobs`;
}
