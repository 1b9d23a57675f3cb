/**
 * Time for people: the server's clock, lengths and moments as words.
 *
 * Owns every format of a time. Ages are told by the server's clock: a browser's may be
 * minutes off, and a job would end before it began.
 *
 * @module
 */

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** The furthest moment that a Date can hold; beyond it, formatting throws. */
const LAST_MOMENT = 8.64e15;

const CLOCK = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const SHORT_CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** The server's clock, as its last message had it. */
export class ServerClock {
  #ahead = 0;

  /** @param {number} ms What the server's clock shows now. */
  set(ms) {
    this.#ahead = ms - performance.now();
  }

  /** @returns {number} What it shows now, in milliseconds of 1970. */
  now() {
    return this.#ahead + performance.now();
  }
}

/**
 * A length: "0.8 s", "12 s", "3 min", "2 h 5 min", "4 d 3 h".
 *
 * @param {number} ms
 * @returns {string}
 */
export function length(ms) {
  const whole = Math.max(0, ms);
  if (whole < 10 * SECOND) return `${(whole / SECOND).toFixed(1)} s`;
  return age(whole);
}

/**
 * A length that counts up on the page: no part of it changes faster than a second.
 *
 * @param {number} ms
 * @returns {string}
 */
export function age(ms) {
  const whole = Math.max(0, ms);
  if (whole < MINUTE) return `${Math.floor(whole / SECOND)} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min`;
  if (whole < DAY) return two(whole, HOUR, "h", MINUTE, "min");
  return two(whole, DAY, "d", HOUR, "h");
}

/**
 * @param {number} ms
 * @param {number} large
 * @param {string} largeName
 * @param {number} small
 * @param {string} smallName
 */
function two(ms, large, largeName, small, smallName) {
  const rest = Math.floor((ms % large) / small);
  const first = `${Math.floor(ms / large)} ${largeName}`;
  return rest ? `${first} ${rest} ${smallName}` : first;
}

/**
 * A moment by the clock on the wall, with its day unless that is today.
 *
 * @param {number} ms
 * @param {number} now
 * @returns {string}
 */
export function moment(ms, now) {
  return isMoment(ms) ? `${dayBefore(ms, now)}${CLOCK.format(ms)}` : "a time out of range";
}

/**
 * The same without seconds, for an axis.
 *
 * @param {number} ms
 * @param {number} now
 * @returns {string}
 */
export function tick(ms, now) {
  return isMoment(ms) ? `${dayBefore(ms, now)}${SHORT_CLOCK.format(ms)}` : "";
}

/** @param {number} ms */
export function isMoment(ms) {
  return Number.isFinite(ms) && Math.abs(ms) <= LAST_MOMENT;
}

/**
 * @param {number} ms
 * @param {number} now
 */
function dayBefore(ms, now) {
  const day = DATE.format(ms);
  return isMoment(now) && day === DATE.format(now) ? "" : `${day} `;
}
