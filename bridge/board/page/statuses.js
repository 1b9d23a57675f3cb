/**
 * The statuses of a job: their words, their icons, and which of them end it.
 *
 * @module
 */

/** Those that can be chosen, in the order in which a job has them. */
export const STATUSES = ["processing", "in_progress", "done", "error"];

const WORDS = new Map([
  ["pending", "Pending"],
  ["processing", "Processing"],
  ["in_progress", "In progress"],
  ["done", "Done"],
  ["error", "Error"],
]);

/**
 * @param {string} status Any word: a newer bridge may have others.
 * @returns {{word: string, icon: string}}
 */
export function look(status) {
  const word = WORDS.get(status);
  return word ? { word, icon: status } : { word: status, icon: "other" };
}
