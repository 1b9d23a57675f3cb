/**
 * What the page knows: the last snapshot and every update since.
 *
 * Any client that can write to the topics may have written a text: the page shows it as
 * text only.
 *
 * @module
 */

/**
 * @typedef {object} Job
 * @property {string} id
 * @property {number} first_ms Its first event on the topic.
 * @property {number} last_ms Its latest one.
 * @property {string} [status]
 * @property {string} [account]
 * @property {number} [progress] From 0 to 100.
 * @property {number} [ended_ms]
 * @property {number} [preview] Its version: each picture of the job has another.
 * @property {string} [preview_note] Why there is none.
 * @property {boolean} [has_result]
 * @property {string} [result_url]
 * @property {string} [error]
 * @property {string} [origin] Where the latest event came from.
 */

/**
 * @typedef {object} Gap The members of its record.
 * @property {string} gap_id
 * @property {string | null} client_id
 * @property {string} cause
 * @property {string | null} since Null if unknown.
 * @property {string | null} until Null while it is open.
 * @property {number | null} jobs_in_flight
 * @property {number | null} healed_by_status_endpoint
 * @property {number | null} healed_by_webhook
 * @property {number | null} unknown Null until it is resolved.
 */

/** @typedef {{reason: string, count: number, last_ms: number, id: string | null, text: string, error: string}} Reason */

/**
 * @typedef {object} Figures
 * @property {number} now_ms The server's clock.
 * @property {number} events_per_second
 * @property {number | null} latency_p50_ms
 * @property {number | null} latency_p99_ms
 * @property {number} in_flight
 * @property {number} seen Jobs since the board started.
 * @property {number} lag Records that are left to read.
 * @property {"starting" | "live" | "catching-up" | "unavailable"} reading
 * @property {number | null} unavailable_since_ms
 * @property {string | null} note
 */

/**
 * @typedef {object} Message A snapshot has everything; what an update leaves out is as before.
 * @property {Figures} figures
 * @property {Job[]} [jobs] In an update those that changed.
 * @property {string[]} [gone] To be removed before `jobs` are added.
 * @property {Gap[]} [gaps]
 * @property {Reason[]} [dead_letters]
 * @property {string} [topic]
 * @property {number} [since_ms] Where reading started.
 */

export class Model {
  /** Whether anything was received yet. */
  known = false;
  topic = "";
  sinceMs = 0;
  /** @type {Map<string, Job>} */
  jobs = new Map();
  /** @type {Gap[]} */
  gaps = [];
  /** @type {Reason[]} */
  deadLetters = [];
  /** @type {Figures | null} */
  figures = null;
  #ahead = 0;

  /**
   * Nothing in it is changed in place: a new object shows that something is new.
   *
   * @param {Message} message
   * @param {boolean} isSnapshot
   */
  take(message, isSnapshot) {
    if (isSnapshot) this.jobs.clear();
    for (const id of message.gone ?? []) this.jobs.delete(id);
    for (const job of message.jobs ?? []) this.jobs.set(job.id, job);
    this.gaps = message.gaps ?? this.gaps;
    this.deadLetters = message.dead_letters ?? this.deadLetters;
    this.topic = message.topic ?? this.topic;
    this.sinceMs = message.since_ms ?? this.sinceMs;
    this.figures = message.figures;
    this.#ahead = message.figures.now_ms - performance.now();
    this.known = true;
  }

  /** The server's clock. */
  now() {
    return this.#ahead + performance.now();
  }
}
