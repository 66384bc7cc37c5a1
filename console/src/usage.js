// How often a token was used on each of the latest days.
import { msg } from '@lit/localize';
import { renderChart } from './chart.js';
import { ask } from './refusal.js';

const DAYS = 30;
const DAY = 86_400_000;

/**
 * The counts of a token on the latest days, as far as the server has written them. Days are those of UTC, and tomorrow is
 * among them, since the clock of the server may be ahead. They are named one by one, since the index begins with the day:
 * "from a day on" reads the entries of all tokens, which takes 150 ms of two million rows, and this 0.6 ms.
 */
export function readUsage(client, id) {
  const days = Array.from({ length: DAYS + 1 }, (_, at) => dayBefore(today(), at - 1));
  return ask(client.from('api_key_daily_usage').select('day,requests,refused').eq('key_id', id).in('day', days));
}

/** The days that are shown, each with its counts; one without a row has none. */
export function latestDays(rows, now = today()) {
  const last = rows.reduce((latest, { day }) => (day > latest ? day : latest), now);
  const counts = new Map(rows.map((row) => [row.day, row]));
  return Array.from({ length: DAYS }, (_, at) => dayBefore(last, DAYS - 1 - at))
    .map((day) => ({ day, requests: counts.get(day)?.requests ?? 0, refused: counts.get(day)?.refused ?? 0 }));
}

export function renderUsage(rows, { wasUsed }) {
  return renderChart(latestDays(rows), wasUsed ? {} : { ifNone: msg('Not used yet.') });
}

function today() {
  return new Date().toISOString().slice(0, 10);
}

function dayBefore(day, count) {
  return new Date(Date.parse(day) - count * DAY).toISOString().slice(0, 10);
}
