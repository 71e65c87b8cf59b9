/** Numbers, times and names as text, by Intl in the language of the texts. */

import { DATE_LOCALE, NUMBER_LOCALE, texts } from "./texts.ts";
import type { Scalar } from "./types.ts";

const formats = new Map<string, Intl.NumberFormat>();

function numberFormat(options: Intl.NumberFormatOptions): Intl.NumberFormat {
  const key = JSON.stringify(options);
  let format = formats.get(key);
  if (format === undefined) {
    format = new Intl.NumberFormat(NUMBER_LOCALE, options);
    formats.set(key, format);
  }
  return format;
}

/** Whole numbers: parts, machines. */
export function formatCount(count: number | null): string {
  return count === null ? texts.nothing : numberFormat({ maximumFractionDigits: 0 }).format(count);
}

/** A fixed number of decimals, so that a changing figure does not jump about. */
export function formatFixed(value: number | null, decimals: number): string {
  if (value === null) return texts.nothing;
  return numberFormat({ minimumFractionDigits: decimals, maximumFractionDigits: decimals }).format(value);
}

/**
 * A measured number at the resolution that makes sense for its size.
 *
 * Whole numbers are written whole where they may be counts; a quantity with a unit keeps its decimals, or it would
 * change its width whenever it passes a whole number.
 */
export function formatNumber(value: number, quantity = false): string {
  if (value === 0 || (!quantity && Number.isInteger(value) && Math.abs(value) < 1e15)) return numberFormat({ maximumFractionDigits: 0 }).format(value);
  const size = Math.abs(value);
  if (size >= 1e9 || size < 1e-3) return numberFormat({ notation: "scientific", maximumFractionDigits: 3 }).format(value);
  const decimals = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3;
  return formatFixed(value, decimals);
}

/** A number beside an axis: no more decimals than it needs. */
export function formatTick(value: number): string {
  return numberFormat({ maximumFractionDigits: 3 }).format(value);
}

/** The value of a signal: a word where the number stands for one. `unit` as people read it. */
export function formatValue(signal: string, value: Scalar, unit = ""): string {
  if (value === null) return texts.machine.noValue;
  if (typeof value === "string") return value === "" ? texts.nothing : value;
  return texts.enumerations[signal]?.[value] ?? formatNumber(value, unit !== "");
}

function amountOf(amount: number, unit: string): string {
  return numberFormat({ style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 0 }).format(amount);
}

/** How long something has lasted: two units at most, none of them finer than a reader needs. */
export function formatDuration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return amountOf(seconds, "second");
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return amountOf(minutes, "minute");
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${amountOf(hours, "hour")} ${amountOf(minutes % 60, "minute")}`;
  return `${amountOf(Math.floor(hours / 24), "day")} ${amountOf(hours % 24, "hour")}`;
}

/** A round length of time: 10 min, 8 hr. */
export function formatSpan(seconds: number): string {
  return seconds < 3600 ? amountOf(seconds / 60, "minute") : amountOf(seconds / 3600, "hour");
}

/** How old data is; "now" up to three seconds, because a figure that flickers between 1 and 2 says nothing. */
export function formatAge(newest: number | null, now: number): string {
  if (newest === null) return texts.never;
  const age = now - newest;
  return age < 3000 ? texts.justNow : texts.ago(formatDuration(age));
}

const clocks = new Map<string, Intl.DateTimeFormat>();

function clockFormat(zone: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = `${zone}|${JSON.stringify(options)}`;
  let format = clocks.get(key);
  if (format === undefined) {
    const all: Intl.DateTimeFormatOptions = { hourCycle: "h23", ...options };
    try {
      format = new Intl.DateTimeFormat(DATE_LOCALE, { ...all, ...(zone === "" ? {} : { timeZone: zone }) });
    } catch {
      // A zone that this browser does not know: UTC, and said so.
      format = new Intl.DateTimeFormat(DATE_LOCALE, { ...all, timeZone: "UTC", timeZoneName: "short" });
    }
    clocks.set(key, format);
  }
  return format;
}

/** Hours and minutes at a place; an empty zone is that of the browser. */
export function formatClock(ms: number, zone = ""): string {
  return clockFormat(zone, { hour: "2-digit", minute: "2-digit" }).format(ms);
}

export function formatClockSeconds(ms: number, zone = ""): string {
  return clockFormat(zone, { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(ms);
}

export function formatDay(ms: number, zone = ""): string {
  return clockFormat(zone, { weekday: "short", day: "numeric", month: "short" }).format(ms);
}

/** A moment: the time alone while it is of today, with the day before that. */
export function formatMoment(ms: number, now: number, zone = ""): string {
  const clock = formatClockSeconds(ms, zone);
  return formatDay(ms, zone) === formatDay(now, zone) ? clock : `${formatDay(ms, zone)} ${clock}`;
}

/** The group that a signal belongs to: its first word. */
export function groupOf(signal: string): string {
  return signal.split(".", 1)[0] ?? signal;
}

export function groupLabel(group: string): string {
  return texts.groups[group] ?? sentence(group);
}

/** What a signal is called inside of its group. */
export function signalLabel(signal: string): string {
  const known = texts.signals[signal];
  if (known !== undefined) return known;
  const rest = signal.includes(".") ? signal.slice(signal.indexOf(".") + 1) : signal;
  return sentence(rest.replaceAll(".", " "));
}

/** What a signal is called on its own, with its group where the label alone would be ambiguous. */
export function fullLabel(signal: string): string {
  if (texts.signals[signal] !== undefined || !signal.includes(".")) return signalLabel(signal);
  const label = signalLabel(signal);
  return `${groupLabel(groupOf(signal))} ${label.charAt(0).toLowerCase()}${label.slice(1)}`;
}

/** What is wrong, in plain words. */
export function alarmLabel(kind: string): string {
  return texts.alarms.kinds[kind] ?? sentence(kind);
}

function sentence(name: string): string {
  const words = name.split(/[_ ]+/).map((word) => texts.words[word] ?? word);
  const text = words.join(" ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The fixed order of groups; others follow by name. */
const GROUP_ORDER = ["status", "job", "cycle", "injection", "barrel", "mould", "clamp"];

/** Compare groups: those that every machine has first, energy last. */
export function compareGroups(a: string, b: string): number {
  return rank(a) - rank(b) || a.localeCompare(b, "en");
}

function rank(group: string): number {
  if (group === "energy") return GROUP_ORDER.length + 1;
  const at = GROUP_ORDER.indexOf(group);
  return at < 0 ? GROUP_ORDER.length : at;
}
