/**
 * The gaps: how many, where in time, and each one in a list.
 *
 * Owns the summary, which gap's details are shown, and the list.
 *
 * @module
 */

import { cut, element, icon, part, setText } from "./elements.js";
import { healedOf, lengthOf, outcome, sentence } from "./gap_words.js";
import { moment } from "./time.js";
import { Timeline } from "./timeline.js";

/** @import { Gap } from "./protocol.js" */

export class Gaps {
  #summary = part(document, "#gaps-summary", HTMLElement);
  #detail = part(document, "#gap-detail", HTMLElement);
  #list = part(document, "#gap-list", HTMLDetailsElement);
  #rows = part(this.#list, "tbody", HTMLElement);
  #timeline = new Timeline((id) => this.#point(id));
  /** @type {Map<string, Gap>} */
  #gaps = new Map();
  /** @type {string | null} What was pointed at; else the newest is shown. */
  #chosen = null;
  #now = 0;

  constructor() {
    // A list that nobody sees is not kept up to date.
    this.#list.addEventListener("toggle", () => this.#fillList());
  }

  /**
   * @param {Map<string, Gap>} gaps
   * @param {number} sinceMs From when on the topic was read.
   * @param {number} now
   */
  show(gaps, sinceMs, now) {
    if (gaps === this.#gaps) return;
    this.#gaps = gaps;
    this.#now = now;
    setText(this.#summary, summary([...gaps.values()], moment(sinceMs, now)));
    this.#timeline.show(gaps.values(), now);
    this.#list.hidden = gaps.size === 0;
    this.#fillList();
    this.#showDetail();
  }

  /** @param {number} now */
  tick(now) {
    this.#now = now;
    this.#timeline.tick(now);
    this.#showDetail();
  }

  /** @param {string} id */
  #point(id) {
    this.#chosen = id;
    this.#showDetail();
  }

  #showDetail() {
    const [newest] = this.#gaps.values();
    const gap = this.#gaps.get(this.#chosen ?? "") ?? newest;
    this.#timeline.point(gap?.id ?? null);
    setText(this.#detail, gap ? sentence(gap, this.#now) : "");
  }

  #fillList() {
    if (!this.#list.open) return;
    this.#rows.replaceChildren(...[...this.#gaps.values()].map((gap) => row(gap, this.#now)));
  }
}

/**
 * @param {Gap[]} gaps
 * @param {string} since
 */
function summary(gaps, since) {
  if (gaps.length === 0) return `none since ${since}`;
  const open = gaps.filter((gap) => gap.until_ms === null).length;
  const healed = gaps.reduce((sum, gap) => sum + healedOf(gap), 0);
  const unknown = gaps.reduce((sum, gap) => sum + (gap.unknown ?? 0), 0);
  const parts = [`${gaps.length} since ${since}`];
  if (open) parts.push(`${open} open`);
  parts.push(`${healed} healed`, `${unknown} unknown`);
  return parts.join(" · ");
}

/**
 * @param {Gap} gap
 * @param {number} now
 */
function row(gap, now) {
  const made = element("tr");
  const became = element("td");
  const { kind, icon: name, word } = outcome(gap);
  became.dataset.kind = kind;
  became.append(icon(name), word);
  const cause = element("th", cut(gap.cause, 60));
  cause.scope = "row";
  made.append(cause, became);
  for (const text of [
    gap.since_ms === null ? "unknown" : moment(gap.since_ms, now),
    gap.until_ms === null ? "open" : moment(gap.until_ms, now),
    lengthOf(gap, now),
    count(gap.jobs_in_flight),
    count(gap.unknown),
    count(gap.healed_by_webhook),
    count(gap.healed_by_status_endpoint),
    cut(gap.account ?? "–", 60),
  ]) {
    made.append(element("td", text));
  }
  return made;
}

/** @param {number | null} value */
function count(value) {
  return value === null ? "–" : String(value);
}
