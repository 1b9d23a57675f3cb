/**
 * What the server sends, as types; the words and their order are the server's.
 *
 * Owns the shapes alone: `model` keeps what came, the modules of the page show it.
 * Every text in it may come from whoever can write to the topics: it goes into the page
 * as text (`elements`), never as markup.
 *
 * @module
 */

/**
 * @typedef {object} Preview
 * @property {number} version Grows with each picture of the job.
 * @property {string} type
 * @property {number} bytes
 */

/**
 * @typedef {object} Job
 * @property {string} id
 * @property {string | null} account
 * @property {string} status
 * @property {number | null} progress From 0 to 100.
 * @property {number} first_ms Its first event on the topic.
 * @property {number} last_ms Its last one.
 * @property {number | null} ended_ms
 * @property {number} events
 * @property {Preview | null} preview
 * @property {string | null} preview_note Why there is none.
 * @property {string | null} result_url
 * @property {boolean} has_result
 * @property {string | null} error
 * @property {string} origin Who told the last event: socket, status-endpoint, webhook.
 */

/**
 * @typedef {object} Gap
 * @property {string} id
 * @property {string | null} account
 * @property {string} cause
 * @property {number | null} since_ms Null where nobody knows.
 * @property {number | null} until_ms Null while it is open.
 * @property {number | null} jobs_in_flight
 * @property {number | null} healed_by_status_endpoint
 * @property {number | null} healed_by_webhook
 * @property {number | null} unknown
 * @property {boolean} settled
 */

/**
 * @typedef {object} Letters
 * @property {string} reason
 * @property {number} count
 * @property {number} last_ms
 * @property {{id: string | null, text: string, error: string}} example
 */

/**
 * @typedef {object} Figures
 * @property {number} now_ms The server's clock.
 * @property {number} events_per_second
 * @property {number | null} latency_p50_ms
 * @property {number | null} latency_p99_ms
 * @property {number} in_flight
 * @property {number} jobs Those that the server keeps.
 * @property {number} seen Those that it has ever seen.
 * @property {number} lag Records that it has yet to read.
 * @property {"starting" | "live" | "catching-up" | "away"} reading
 * @property {number | null} away_since_ms
 * @property {string | null} note
 * @property {number} browsers
 */

/**
 * @typedef {object} Snapshot
 * @property {number} version
 * @property {string} topic
 * @property {number} since_ms From when on the topics were read.
 * @property {Job[]} jobs
 * @property {number} matching How many match the filter, shown or not.
 * @property {Gap[]} gaps
 * @property {Letters[]} letters
 * @property {Figures} figures
 */

/**
 * @typedef {object} Update
 * @property {number} version
 * @property {Job[]} [jobs] Those that changed, and those that are shown from now on.
 * @property {string[]} [gone] Those that are shown no longer.
 * @property {number} [matching]
 * @property {Gap[]} [gaps]
 * @property {Letters[]} [letters]
 * @property {Figures} [figures]
 */

/**
 * @typedef {object} Filter
 * @property {string} id A part of the id; empty for any.
 * @property {string[]} status Empty for any.
 */

/**
 * Where a filter's events are.
 *
 * @param {Filter} filter
 * @returns {string} Relative to the page, so that it may stand below any path.
 */
export function eventsAddress({ id, status }) {
  const query = new URLSearchParams();
  if (status.length) query.set("status", status.join(","));
  if (id) query.set("id", id);
  return query.size ? `events?${query}` : "events";
}

/**
 * Where a job's picture is.
 *
 * @param {string} id
 * @param {Preview} preview
 * @returns {string}
 */
export function previewAddress(id, preview) {
  // Half of a surrogate pair can't be encoded.
  return `previews/${encodeURIComponent(id.toWellFormed())}?v=${preview.version}`;
}
