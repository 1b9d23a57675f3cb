/**
 * What the page knows: the last snapshot, and every update since.
 *
 * Owns the folding of messages. How it looks, and when it is drawn, is for others.
 *
 * @module
 */

/** @import { Figures, Gap, Job, Letters, Snapshot, Update } from "./protocol.js" */

/** As many as a snapshot has: the page may stay open for months. */
const MOST_GAPS = 100;

export class Model {
  /** Whether anything was received yet. */
  known = false;
  topic = "";
  sinceMs = 0;
  matching = 0;
  /** @type {Map<string, Job>} */
  jobs = new Map();
  /** @type {Map<string, Gap>} */
  gaps = new Map();
  /** @type {Letters[]} */
  letters = [];
  /** @type {Figures | null} */
  figures = null;

  /**
   * Begin anew: nothing of before holds.
   *
   * @param {Snapshot} snapshot
   */
  begin(snapshot) {
    this.known = true;
    this.topic = snapshot.topic;
    this.sinceMs = snapshot.since_ms;
    this.matching = snapshot.matching;
    this.jobs = byId(snapshot.jobs);
    this.gaps = byId(snapshot.gaps);
    this.letters = snapshot.letters;
    this.figures = snapshot.figures;
  }

  /**
   * Take what has changed. An object is never changed in place: whoever shows one
   * sees by its identity whether there is something new.
   *
   * @param {Update} update
   */
  take(update) {
    for (const id of update.gone ?? []) this.jobs.delete(id);
    for (const job of update.jobs ?? []) this.jobs.set(job.id, job);
    this.matching = update.matching ?? this.matching;
    if (update.gaps) {
      const merged = new Map([...this.gaps, ...byId(update.gaps)]);
      const newest = [...merged.values()].sort((one, other) => gapAt(other) - gapAt(one));
      // What is open gives way to nothing that has ended, however long ago it began.
      const kept = newest.sort((one, other) => isOver(one) - isOver(other)).slice(0, MOST_GAPS);
      // A new map tells that something in it is new.
      this.gaps = byId(kept.sort((one, other) => gapAt(other) - gapAt(one)));
    }
    this.letters = update.letters ?? this.letters;
    this.figures = update.figures ?? this.figures;
  }
}

/**
 * Where a gap stands in time: its begin, or its end where only that is known. One that
 * is open and has no begin is of the present.
 *
 * @param {Gap} gap
 * @returns {number}
 */
export function gapAt(gap) {
  return gap.since_ms ?? gap.until_ms ?? Infinity;
}

/**
 * @param {Gap} gap
 * @returns {number} 0 while it is open.
 */
function isOver(gap) {
  return gap.until_ms === null ? 0 : 1;
}

/**
 * @template {{id: string}} T
 * @param {T[]} things
 * @returns {Map<string, T>}
 */
function byId(things) {
  return new Map(things.map((thing) => [thing.id, thing]));
}
