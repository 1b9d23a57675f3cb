/**
 * The stream of events from the server: opened, watched, opened again.
 *
 * Owns when there is a stream, and how it stands. EventSource comes back by itself
 * after most interruptions; what it gives up for good (an answer that is no stream, as
 * when there are too many browsers) is asked for its reason here, and tried again.
 * A page that nobody sees, and one that is paused, has no stream and costs nothing.
 *
 * @module
 */

import { eventsAddress } from "./protocol.js";

/** @import { Filter, Snapshot, Update } from "./protocol.js" */

/**
 * @typedef {object} Standing How the stream stands.
 * @property {"connecting" | "live" | "stale" | "lost" | "refused" | "paused"} name
 * @property {number} sinceMs Since when, by this browser's clock.
 * @property {string} [reason] The server's own words.
 */

/** The server sends figures every second: five that are missing are no chance. */
const STALE_MS = 5_000;
/** A connection that is silent for so long may be dead without either side knowing. */
const SILENT_MS = 20_000;
/** As the server asks EventSource to wait. */
const RETRY_MS = 2_000;
const LOOK_MS = 1_000;
/** The reason is one sentence; what is longer is no answer of the board's. */
const MOST_REASON = 300;

export class Connection {
  /** @type {EventSource | null} */
  #source = null;
  /** @type {Filter} */
  #filter = { id: "", status: [] };
  /** @type {Standing} */
  #standing = { name: "connecting", sinceMs: Date.now() };
  #heard = 0;
  #paused = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;

  /**
   * @param {object} to
   * @param {(snapshot: Snapshot) => void} to.onSnapshot
   * @param {(update: Update) => void} to.onUpdate
   * @param {(standing: Standing) => void} to.onStanding Told when the name or the
   *   reason changes.
   */
  constructor({ onSnapshot, onUpdate, onStanding }) {
    this.onSnapshot = onSnapshot;
    this.onUpdate = onUpdate;
    this.onStanding = onStanding;
    document.addEventListener("visibilitychange", () => this.#reopen());
    setInterval(() => this.#watch(), LOOK_MS);
  }

  /** @param {Filter} filter What the events shall be of, from now on. */
  open(filter) {
    this.#filter = filter;
    this.#reopen();
  }

  /** @param {boolean} paused */
  setPaused(paused) {
    if (paused === this.#paused) return;
    this.#paused = paused;
    this.#reopen();
  }

  #reopen() {
    this.#close();
    if (this.#paused) return this.#stand("paused");
    if (document.visibilityState === "hidden") return;
    this.#heard = performance.now();
    const source = new EventSource(eventsAddress(this.#filter));
    source.addEventListener("snapshot", (event) => this.#take(event.data, this.onSnapshot));
    source.addEventListener("update", (event) => this.#take(event.data, this.onUpdate));
    source.addEventListener("error", () => this.#fail(source));
    this.#source = source;
    // Whoever was away is still so until the first word.
    if (this.#standing.name === "paused") this.#stand("connecting");
  }

  #close() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }

  /**
   * @template T
   * @param {string} data
   * @param {(message: T) => void} use
   */
  #take(data, use) {
    const message = parsed(data);
    if (message === undefined) {
      // Whoever spoke was not the board.
      this.#close();
      this.#stand("lost");
      this.#retryLater();
      return;
    }
    this.#heard = performance.now();
    use(message);
    this.#stand("live");
  }

  /** @param {EventSource} source */
  #fail(source) {
    if (source !== this.#source) return;
    if (source.readyState !== EventSource.CLOSED) return this.#stand("lost");
    this.#close();
    void this.#askWhy();
  }

  /** Find out why there is no stream, and try again. */
  async #askWhy() {
    const reason = await refusal(eventsAddress(this.#filter));
    // Meanwhile it may have been opened for another filter, or paused.
    if (this.#source || this.#paused) return;
    if (reason === null) this.#stand("lost");
    else this.#stand("refused", reason);
    this.#retryLater();
  }

  #retryLater() {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#reopen(), RETRY_MS);
  }

  #watch() {
    if (!this.#source || document.visibilityState === "hidden") return;
    const silent = performance.now() - this.#heard;
    if (silent > SILENT_MS) {
      this.#stand("lost");
      this.#reopen();
    } else if (silent > STALE_MS && this.#standing.name === "live") {
      this.#stand("stale", undefined, Date.now() - silent);
    }
  }

  /**
   * @param {Standing["name"]} name
   * @param {string} [reason]
   * @param {number} [sinceMs]
   */
  #stand(name, reason, sinceMs = Date.now()) {
    const before = this.#standing;
    if (name === before.name && reason === before.reason) return;
    // What began with silence began when the silence did.
    const since = name === "lost" && before.name === "stale" ? before.sinceMs : sinceMs;
    this.#standing = { name, sinceMs: since, reason };
    this.onStanding(this.#standing);
  }
}

/**
 * @param {string} data
 * @returns {any} Undefined where it is no JSON.
 */
function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    return undefined;
  }
}

/**
 * Ask for a stream to learn why there is none.
 *
 * @param {string} address
 * @returns {Promise<string | null>} The server's words; null where nobody answers, or it
 *   would be granted by now.
 */
async function refusal(address) {
  const asking = new AbortController();
  const deadline = setTimeout(() => asking.abort(), STALE_MS);
  try {
    const answer = await fetch(address, { signal: asking.signal });
    return answer.ok ? null : (await answer.text()).trim().slice(0, MOST_REASON);
  } catch {
    return null;
  } finally {
    clearTimeout(deadline);
    // A stream that was granted after all would be read by nobody.
    asking.abort();
  }
}
