/**
 * The gaps: a summary, a drawing of when they were, and a table with each one.
 *
 * @module
 */

import { cut, element, html, setText } from "./elements.js";
import { age, DAY, HOUR, length, MINUTE, moment, tick } from "./time.js";

/** @import { Gap } from "./model.js" */

/** How much time the axis shows, and the distance between its ticks. */
const SPANS = [
  [15 * MINUTE, 5 * MINUTE],
  [HOUR, 15 * MINUTE],
  [6 * HOUR, HOUR],
  [DAY, 4 * HOUR],
  [7 * DAY, DAY],
  [31 * DAY, 7 * DAY],
];
const LONGEST = [366 * DAY, 61 * DAY];

export class Gaps {
  #marks = html(document, "#marks");
  #ticks = html(document, "#ticks");
  #table = html(document, "#gap-table");
  /** @type {Gap[]} */
  #gaps = [];
  /** @type {[Gap, HTMLElement][]} Cells with lengths that still grow. */
  #growing = [];

  /**
   * @param {Gap[]} gaps Newest first.
   * @param {number} sinceMs
   * @param {number} now
   */
  show(gaps, sinceMs, now) {
    setText(html(document, "#gaps-summary"), summary(gaps, moment(sinceMs, now)));
    if (gaps === this.#gaps) return;
    this.#gaps = gaps;
    this.#growing = [];
    this.#table.hidden = gaps.length === 0;
    html(this.#table, "tbody").replaceChildren(...gaps.map((gap) => this.#row(gap, now)));
    this.tick(now);
  }

  /** @param {number} now */
  tick(now) {
    for (const [gap, cell] of this.#growing) setText(cell, lengthOf(gap, now));
    const reach = now - Math.min(now, ...this.#gaps.map((gap) => startOf(gap, now)));
    const [span = 0, step = 0] = SPANS.find(([each = 0]) => each >= reach) ?? LONGEST;
    /** @param {number} ms */
    const share = (ms) => Math.min(1, Math.max(0, 1 - (now - ms) / span));
    const marks = this.#gaps.map((gap) => {
      const start = share(startOf(gap, now));
      const mark = at(start, "");
      mark.dataset.kind = outcome(gap).kind;
      mark.style.setProperty("width", percent(share(gap.until === null ? now : Date.parse(gap.until)) - start));
      return mark;
    });
    this.#marks.replaceChildren(...marks);
    // Whole hours and days are those of the reader's clock.
    const zone = new Date(now).getTimezoneOffset() * MINUTE;
    const ticks = [at(1, "now")];
    for (let ms = Math.ceil((now - span - zone) / step) * step + zone; ms < now; ms += step) {
      // No room beside "now" and at the left edge.
      if (share(ms) > 0.03 && share(ms) < 0.93) ticks.push(at(share(ms), tick(ms, now)));
    }
    this.#ticks.replaceChildren(...ticks);
  }

  /**
   * @param {Gap} gap
   * @param {number} now
   */
  #row(gap, now) {
    const { kind, word } = outcome(gap);
    const extent = element("td", lengthOf(gap, now));
    if (gap.until === null) this.#growing.push([gap, extent]);
    const cause = element("th", cut(gap.cause, 60));
    cause.scope = "row";
    const counts = [gap.jobs_in_flight, gap.unknown, gap.healed_by_webhook, gap.healed_by_status_endpoint];
    const row = element("tr");
    row.dataset.kind = kind;
    row.append(
      cause,
      element("td", word),
      element("td", gap.since === null ? "unknown" : moment(Date.parse(gap.since), now)),
      element("td", gap.until === null ? "open" : moment(Date.parse(gap.until), now)),
      extent,
      ...counts.map((count) => element("td", String(count ?? "–"))),
      element("td", cut(gap.client_id, 60) || "–"),
    );
    return row;
  }
}

/** @param {number} share */
function percent(share) {
  return `${(share * 100).toFixed(2)}%`;
}

/**
 * @param {number} share
 * @param {string} text
 */
function at(share, text) {
  const made = element("span", text);
  made.style.setProperty("left", percent(share));
  return made;
}

/**
 * @param {Gap[]} gaps
 * @param {string} since
 */
function summary(gaps, since) {
  if (gaps.length === 0) return `none since ${since}`;
  const open = gaps.filter((gap) => gap.until === null).length;
  const recovered = gaps.reduce((sum, gap) => sum + recoveredOf(gap), 0);
  const unknown = gaps.reduce((sum, gap) => sum + (gap.unknown ?? 0), 0);
  const opened = open ? `${open} open · ` : "";
  return `${gaps.length} since ${since} · ${opened}${recovered} recovered · ${unknown} unknown`;
}

/**
 * @param {Gap} gap
 * @returns {{kind: "open" | "closed" | "resolved" | "unknown", word: string}}
 */
function outcome(gap) {
  if (gap.until === null) return { kind: "open", word: "open" };
  if (gap.unknown === null) return { kind: "closed", word: "closed, recovering" };
  if (gap.unknown) return { kind: "unknown", word: `${gap.unknown} unknown` };
  const recovered = recoveredOf(gap);
  return { kind: "resolved", word: recovered ? `${recovered} recovered` : "nothing to recover" };
}

/** @param {Gap} gap */
function recoveredOf(gap) {
  return (gap.healed_by_status_endpoint ?? 0) + (gap.healed_by_webhook ?? 0);
}

/**
 * @param {Gap} gap
 * @param {number} now
 */
function startOf({ since, until }, now) {
  return Date.parse(since ?? until ?? "") || now;
}

/**
 * @param {Gap} gap
 * @param {number} now
 */
function lengthOf({ since, until }, now) {
  if (since === null) return "unknown";
  return until === null ? `${age(now - Date.parse(since))} so far` : length(Date.parse(until) - Date.parse(since));
}
