/**
 * Gaps as marks in time.
 *
 * Owns the axis, where a mark stands, and how the keyboard goes from one to the next.
 * What a gap says belongs to `gap_words`.
 *
 * @module
 */

import { element, icon, part, setAttribute, setIcon } from "./elements.js";
import { label, outcome } from "./gap_words.js";
import { gapAt } from "./model.js";
import { tick } from "./time.js";

/** @import { Gap } from "./protocol.js" */

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** How much time the axis shows, and how far apart its ticks are. */
const SPANS = [
  { span: 15 * MINUTE, step: 5 * MINUTE },
  { span: HOUR, step: 15 * MINUTE },
  { span: 6 * HOUR, step: HOUR },
  { span: DAY, step: 4 * HOUR },
  { span: 7 * DAY, step: DAY },
  { span: 31 * DAY, step: 7 * DAY },
  { span: 366 * DAY, step: 61 * DAY },
];

/** A mark that a finger can hit, however short the gap (WCAG 2.2, target size). */
const MARK_PX = 24;
const APART_PX = 2;
/** Beyond it marks lie over each other; the list has all of them. */
const MOST_LANES = 4;

export class Timeline {
  #marks = part(document, "#marks", HTMLElement);
  #ticks = part(document, "#ticks", HTMLElement);
  /** @type {Map<string, HTMLButtonElement>} */
  #buttons = new Map();
  /** @type {Gap[]} Oldest first. */
  #gaps = [];
  #width = 0;
  #now = 0;
  #ticked = "";

  /** @param {(id: string) => void} onPoint Told which gap is pointed at. */
  constructor(onPoint) {
    this.onPoint = onPoint;
    new ResizeObserver(([entry]) => {
      this.#width = entry?.contentRect.width ?? 0;
      this.#place();
    }).observe(this.#marks);
    for (const kind of ["focusin", "pointerover", "click"]) {
      this.#marks.addEventListener(kind, (event) => {
        const button = event.target instanceof Element && event.target.closest("button");
        if (button) this.onPoint(button.dataset.id ?? "");
      });
    }
    this.#marks.addEventListener("keydown", (event) => this.#move(event));
  }

  /**
   * @param {Iterable<Gap>} gaps
   * @param {number} now
   */
  show(gaps, now) {
    this.#now = now;
    this.#gaps = [...gaps].sort((one, other) => gapAt(one) - gapAt(other));
    const before = this.#buttons;
    this.#buttons = new Map();
    for (const gap of this.#gaps) {
      const button = before.get(gap.id) ?? this.#make(gap.id);
      this.#buttons.set(gap.id, button);
      const { kind, icon: name } = outcome(gap);
      setAttribute(button, "data-kind", kind);
      setAttribute(button, "aria-label", label(gap, now));
      setIcon(button, name);
    }
    const wanted = [...this.#buttons.values()];
    if (wanted.some((button, at) => button !== this.#marks.children[at]) || wanted.length < before.size) {
      this.#marks.replaceChildren(...wanted);
    }
    this.#place();
  }

  /** @param {number} now */
  tick(now) {
    this.#now = now;
    this.#place();
  }

  /** @param {string | null} id The gap whose details stand below. */
  point(id) {
    for (const [each, button] of this.#buttons) {
      // One of them takes Tab, the arrows reach the others.
      button.tabIndex = each === id ? 0 : -1;
      setAttribute(button, "data-pointed", String(each === id));
    }
  }

  /** @param {string} id */
  #make(id) {
    const button = element("button");
    button.type = "button";
    button.tabIndex = -1;
    button.dataset.id = id;
    button.append(icon("wait"));
    return button;
  }

  #place() {
    if (!this.#now || !this.#width) return;
    const oldest = this.#gaps[0];
    const reach = this.#now - (oldest ? gapAt(oldest) : this.#now);
    const last = /** @type {typeof SPANS[0]} */ (SPANS.at(-1));
    const { span, step } = SPANS.find((each) => each.span >= reach) ?? last;
    const begin = this.#now - span;
    /** @type {number[]} Where each lane's last mark ends, in pixels. */
    const lanes = [];
    for (const gap of this.#gaps) {
      const [left, width] = this.#extent(gap, begin, span);
      const lane = freeLane(lanes, left);
      lanes[lane] = left + width + APART_PX;
      this.#buttons.get(gap.id)?.style.setProperty("left", `${left.toFixed(1)}px`);
      this.#buttons.get(gap.id)?.style.setProperty("width", `${width.toFixed(1)}px`);
      this.#buttons.get(gap.id)?.style.setProperty("--lane", String(lane));
    }
    this.#marks.style.setProperty("--lanes", String(Math.max(1, lanes.length)));
    this.#drawTicks(begin, span, step);
  }

  /**
   * @param {Gap} gap
   * @param {number} begin
   * @param {number} span
   * @returns {[left: number, width: number]}
   */
  #extent(gap, begin, span) {
    const scale = this.#width / span;
    const left = Math.max(0, (Math.min(gapAt(gap), this.#now) - begin) * scale);
    const right = Math.max(0, ((gap.until_ms ?? this.#now) - begin) * scale);
    const width = Math.min(this.#width, Math.max(MARK_PX, right - left));
    return [Math.min(left, this.#width - width), width];
  }

  /**
   * @param {number} begin
   * @param {number} span
   * @param {number} step
   */
  #drawTicks(begin, span, step) {
    // Whole hours and days are those of the reader's clock.
    const zone = new Date(this.#now).getTimezoneOffset() * MINUTE;
    const first = Math.ceil((begin - zone) / step) * step + zone;
    const key = `${first} ${span} ${this.#width}`;
    if (key !== this.#ticked) {
      this.#ticked = key;
      const labels = [];
      for (let at = first; at < this.#now; at += step) labels.push(element("span", tick(at, this.#now)));
      this.#ticks.replaceChildren(...labels, element("span", "now", "now"));
    }
    let at = first;
    for (const each of this.#ticks.children) {
      const share = each.className === "now" ? 1 : (at - begin) / span;
      if (each instanceof HTMLElement) each.style.setProperty("left", `${(share * 100).toFixed(2)}%`);
      // Beside "now", or cut off at the left: no room.
      setAttribute(each, "data-crowded", String(each.className !== "now" && (share > 0.93 || share < 0.03)));
      at += step;
    }
  }

  /** @param {KeyboardEvent} event */
  #move(event) {
    const buttons = [...this.#buttons.values()];
    const at = buttons.findIndex((button) => button === document.activeElement);
    /** @type {Record<string, number>} */
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: buttons.length - 1 };
    const target = buttons[to[event.key] ?? -1];
    if (at < 0 || !target) return;
    event.preventDefault();
    target.focus();
  }
}

/**
 * The first lane that is free at a place, or the one that is free soonest.
 *
 * @param {number[]} lanes
 * @param {number} left
 */
function freeLane(lanes, left) {
  const free = lanes.findIndex((end) => end <= left);
  if (free >= 0) return free;
  if (lanes.length < MOST_LANES) return lanes.length;
  return lanes.indexOf(Math.min(...lanes));
}
