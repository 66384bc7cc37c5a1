// Requests by day, let through and refused, as bars and as numbers.
import { html, nothing, svg } from 'lit';
import { msg, str } from '@lit/localize';
import { calendarDay, number } from './format.js';

/** A bar with the room around it, and the height of all, in units of the drawing. */
const STEP = 10;
const HEIGHT = 60;
/** What is not zero is seen. */
const LEAST = 1.5;

/**
 * All days in order, each with its counts, and with `tokens` if it is known how many tokens had any. Nothing but a
 * sentence where there was no request.
 */
export function renderChart(days, { ifNone = msg(str`No request was counted in the last ${number(days.length)} days.`) } = {}) {
  const used = days.filter(({ requests, refused }) => requests + refused > 0);
  if (used.length === 0) return html`<p class="muted small">${ifNone}</p>`;
  const most = Math.max(...used.map(({ requests, refused }) => requests + refused));
  const sum = (what) => number(total(used, what));
  const totals = msg(str`In the last ${number(days.length)} days: ${sum('requests')} let through, ${sum('refused')} refused.`);
  return html`<div class="tight" part="usage">
    <p class="small">${totals}</p>
    <div class="spread small muted">
      <span class="facts"><span class="passed">${msg('Let through')}</span><span class="refused">${msg('Refused')}</span></span>
      <span>${msg(str`Highest bar: ${number(most)} a day`)}</span>
    </div>
    <svg class="chart" role="img" aria-label=${totals} viewBox="0 0 ${days.length * STEP} ${HEIGHT}" preserveAspectRatio="none">
      ${days.map((day, at) => renderDay(day, at * STEP, most))}
    </svg>
    <div class="spread small muted"><span>${calendarDay(days[0].day)}</span><span>${calendarDay(days.at(-1).day)}</span></div>
    <details><summary class="small">${msg('Day by day')}</summary>${renderNumbers(used.toReversed(), 'tokens' in days[0])}</details>
  </div>`;
}

export function total(days, what) {
  return days.reduce((sum, day) => sum + day[what], 0);
}

function renderNumbers(days, hasTokens) {
  return html`<div class="table" tabindex="0" role="region" aria-label=${msg('Day by day')}><table class="small">
    <caption class="muted">${msg('Days of UTC on which there was a request.')}</caption>
    <thead><tr><th scope="col">${msg('Day')}</th><th scope="col" class="count">${msg('Let through')}</th><th scope="col" class="count">${msg('Refused')}</th>
      ${hasTokens ? html`<th scope="col" class="count">${msg('Tokens')}</th>` : nothing}</tr></thead>
    <tbody>${days.map(({ day, requests, refused, tokens }) => html`<tr>
      <th scope="row">${calendarDay(day)}</th><td class="count">${number(requests)}</td><td class="count">${number(refused)}</td>
      ${hasTokens ? html`<td class="count">${number(tokens)}</td>` : nothing}</tr>`)}</tbody>
  </table></div>`;
}

/** The two counts of a day upon each other, and their numbers for whoever points there. */
function renderDay({ day, requests, refused }, left, most) {
  const height = (count) => (count === 0 ? 0 : Math.max(LEAST, (count / most) * (HEIGHT - LEAST)));
  const [passed, other] = [height(requests), height(refused)];
  const bar = (kind, top, size) => (size === 0 ? nothing
    : svg`<rect class=${kind} x=${left + 1.5} y=${top.toFixed(2)} width=${STEP - 3} height=${size.toFixed(2)}></rect>`);
  return svg`<g><title>${msg(str`${calendarDay(day)}: ${number(requests)} let through, ${number(refused)} refused`)}</title>
    <rect class="day" x=${left} y="0" width=${STEP} height=${HEIGHT}></rect>
    ${bar('passed', HEIGHT - passed, passed)}${bar('refused', HEIGHT - passed - other, other)}</g>`;
}
