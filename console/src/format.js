// Times and lists in the language of the page.
import { msg, str } from '@lit/localize';
import { getLocale } from './locale.js';

const UNITS = [['year', 31_536_000], ['month', 2_592_000], ['day', 86_400], ['hour', 3600], ['minute', 60], ['second', 1]];

/** `in 3 days`, `2 minutes ago`. */
export function relative(time, now = Date.now()) {
  const seconds = (new Date(time) - now) / 1000;
  if (!Number.isFinite(seconds)) return msg('never');
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ['second', 1];
  return new Intl.RelativeTimeFormat(getLocale(), { numeric: 'auto' }).format(Math.round(seconds / size), unit);
}

/** A date and time. */
export function moment(time) {
  const date = new Date(time);
  if (Number.isNaN(date.valueOf())) return msg('never');
  return new Intl.DateTimeFormat(getLocale(), { dateStyle: 'medium', timeStyle: 'short' }).format(date);
}

/** A day, `2026-11-29`, of whatever zone. */
export function calendarDay(day) {
  return new Intl.DateTimeFormat(getLocale(), { dateStyle: 'medium', timeZone: 'UTC' }).format(new Date(day));
}

export function number(count) {
  return new Intl.NumberFormat(getLocale()).format(count);
}

/** A part of a whole. */
export function percent(share) {
  return new Intl.NumberFormat(getLocale(), { style: 'percent', maximumFractionDigits: 1 }).format(share);
}

/** An interval of Postgres, `00:01:00` or `1 day`, as people say it. */
export function span(interval) {
  const days = Number(/(\d+) days?/.exec(interval)?.[1] ?? 0) + 30 * Number(/(\d+) mons?/.exec(interval)?.[1] ?? 0);
  const [, hours = 0, minutes = 0, seconds = 0] = /(\d+):(\d+):([\d.]+)/.exec(interval) ?? [];
  const total = days * 86_400 + Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
  const [unit, size] = UNITS.find(([name, size]) => name !== 'month' && name !== 'year' && total >= size && total % size === 0) ?? ['second', 1];
  return new Intl.NumberFormat(getLocale(), { style: 'unit', unit, unitDisplay: 'long' }).format(total / size);
}

export function list(texts) {
  return new Intl.ListFormat(getLocale(), { type: 'conjunction' }).format(texts);
}

/** So many requests in each window of a limit. */
export function limit(count, window) {
  return msg(str`${number(count)} requests in ${span(window)}`);
}
