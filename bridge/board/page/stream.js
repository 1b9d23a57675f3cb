/**
 * The stream of events from the server: opened, watched, opened again.
 *
 * EventSource reconnects by itself after most failures. After an answer that isn't a
 * stream (there are too many browsers) it doesn't: then the reason is fetched here, and
 * the stream opened again. A page that is hidden or paused has no stream.
 *
 * @module
 */

/** @import { Message } from "./model.js" */

/**
 * @typedef {object} Connection
 * @property {"connecting" | "live" | "stale" | "lost" | "refused" | "paused"} name
 * @property {number} sinceMs By this browser's clock.
 * @property {string} [reason] The server's words.
 */

/** Relative, so that the page works below any path. */
const ADDRESS = "events";
/** The server sends figures every second: five missing ones aren't a coincidence. */
const STALE_MS = 5_000;
/** A connection that is silent for so long may be dead without either side knowing. */
const SILENT_MS = 20_000;
const RETRY_MS = 2_000;
const WATCH_MS = 1_000;
/** A longer reason isn't the board's. */
const MOST_REASON = 300;

export class Stream {
  /** @type {EventSource | null} */
  #source = null;
  /** @type {Connection} */
  #state = { name: "connecting", sinceMs: Date.now() };
  #receivedAt = 0;
  #paused = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;

  /**
   * @param {(message: Message, isSnapshot: boolean) => void} onMessage
   * @param {(state: Connection) => void} onState
   */
  constructor(onMessage, onState) {
    this.onMessage = onMessage;
    this.onState = onState;
    document.addEventListener("visibilitychange", () => this.#open());
    setInterval(() => this.#watch(), WATCH_MS);
    this.#open();
  }

  get isPaused() {
    return this.#paused;
  }

  set isPaused(paused) {
    this.#paused = paused;
    this.#open();
  }

  #open() {
    this.#close();
    if (this.#paused) return this.#set("paused");
    if (document.visibilityState === "hidden") return;
    this.#receivedAt = performance.now();
    const source = new EventSource(ADDRESS);
    source.addEventListener("snapshot", (event) => this.#take(event.data, true));
    source.addEventListener("update", (event) => this.#take(event.data, false));
    source.addEventListener("error", () => this.#fail(source));
    this.#source = source;
    // A lost server stays lost until its first message.
    if (this.#state.name === "paused") this.#set("connecting");
  }

  #close() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }

  /**
   * @param {string} data
   * @param {boolean} isSnapshot
   */
  #take(data, isSnapshot) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      // The sender isn't the board.
      this.#close();
      this.#set("lost");
      return this.#retryLater();
    }
    this.#receivedAt = performance.now();
    this.onMessage(message, isSnapshot);
    this.#set("live");
  }

  /** @param {EventSource} source */
  #fail(source) {
    if (source !== this.#source) return;
    if (source.readyState !== EventSource.CLOSED) return this.#set("lost");
    this.#close();
    void this.#askWhy();
  }

  async #askWhy() {
    const reason = await refusal();
    // Meanwhile it may have been opened or paused.
    if (this.#source || this.#paused) return;
    this.#set(reason === null ? "lost" : "refused", reason ?? undefined);
    this.#retryLater();
  }

  #retryLater() {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#open(), RETRY_MS);
  }

  #watch() {
    if (!this.#source || document.visibilityState === "hidden") return;
    const silent = performance.now() - this.#receivedAt;
    if (silent > SILENT_MS) {
      this.#set("lost");
      this.#open();
    } else if (silent > STALE_MS && this.#state.name === "live") {
      this.#set("stale", undefined, Date.now() - silent);
    }
  }

  /**
   * @param {Connection["name"]} name
   * @param {string} [reason]
   */
  #set(name, reason, sinceMs = Date.now()) {
    const before = this.#state;
    if (name === before.name && reason === before.reason) return;
    // A silence that ends as a lost connection started when it did.
    const since = name === "lost" && before.name === "stale" ? before.sinceMs : sinceMs;
    this.#state = { name, sinceMs: since, reason };
    this.onState(this.#state);
  }
}

/** Ask why there is no stream: the server's words, or null if it doesn't answer or would open one now. */
async function refusal() {
  const asking = new AbortController();
  const deadline = setTimeout(() => asking.abort(), STALE_MS);
  try {
    const answer = await fetch(ADDRESS, { signal: asking.signal });
    return answer.ok ? null : (await answer.text()).trim().slice(0, MOST_REASON);
  } catch {
    return null;
  } finally {
    clearTimeout(deadline);
    asking.abort();
  }
}
