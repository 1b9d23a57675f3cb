/**
 * Times as people read them. Ages are by the server's clock: a browser's may be minutes
 * off.
 *
 * @module
 */

const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** The last time that a Date can hold; beyond it, formatting throws. */
const LAST_MOMENT = 8.64e15;

/** @type {Intl.DateTimeFormatOptions} */
const SHORT = { hour: "2-digit", minute: "2-digit" };
const CLOCK = new Intl.DateTimeFormat("en-GB", { ...SHORT, second: "2-digit" });
const SHORT_CLOCK = new Intl.DateTimeFormat("en-GB", SHORT);
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/**
 * A length: "0.8 s", "12 s", "3 min", "2 h 5 min", "4 d 3 h".
 *
 * @param {number} ms
 */
export function length(ms) {
  return ms < 10 * SECOND ? `${(Math.max(0, ms) / SECOND).toFixed(1)} s` : age(ms);
}

/**
 * A length that counts up: no part of it changes faster than once a second.
 *
 * @param {number} ms
 */
export function age(ms) {
  if (ms < MINUTE) return `${Math.floor(Math.max(0, ms) / SECOND)} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min`;
  const [large, small, words] = ms < DAY ? [HOUR, MINUTE, ["h", "min"]] : [DAY, HOUR, ["d", "h"]];
  const rest = Math.floor((ms % large) / small);
  return `${Math.floor(ms / large)} ${words[0]}${rest ? ` ${rest} ${words[1]}` : ""}`;
}

/**
 * A time of day, with its date unless that is today.
 *
 * @param {number} ms
 * @param {number} now
 */
export function moment(ms, now, clock = CLOCK) {
  if (!isMoment(ms)) return "a time out of range";
  const day = DATE.format(ms);
  return `${isMoment(now) && day === DATE.format(now) ? "" : `${day} `}${clock.format(ms)}`;
}

/**
 * The same without seconds, for an axis.
 *
 * @param {number} ms
 * @param {number} now
 */
export function tick(ms, now) {
  return isMoment(ms) ? moment(ms, now, SHORT_CLOCK) : "";
}

/** @param {number} ms */
function isMoment(ms) {
  return Number.isFinite(ms) && Math.abs(ms) <= LAST_MOMENT;
}
