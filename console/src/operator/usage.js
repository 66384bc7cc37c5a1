// The usage of all tokens: requests by day, and the tokens and users that made most. For a client with a trusted role.
import { html, nothing, svg } from 'lit';
import { msg, str } from '@lit/localize';
import { renderChart, total } from '../chart.js';
import { PatElement } from '../element.js';
import { number, percent } from '../format.js';
import { Loader } from '../loader.js';
import { ask } from '../refusal.js';
import { short } from './short_id.js';

/** Of each list. */
const MOST = 10;

export class PatUsage extends PatElement {
  static properties = { days: { state: true }, order: { state: true } };

  constructor() {
    super();
    this.days = 30;
    this.order = 'requests';
    this.usage = new Loader(this, async (client) => {
      const [pat, { days, order }] = [client.schema('pat'), this];
      const most = { days, order_by: order, max_rows: MOST };
      // The server knows which day it is.
      const [totals, tokens, users] = await Promise.all([
        ask(pat.rpc('usage_totals', { days })), ask(pat.rpc('usage_by_token', most)), ask(pat.rpc('usage_by_user', most)),
      ]);
      return { order, totals, tokens, users };
    });
  }

  render() {
    const { data, isLoading } = this.usage;
    return html`<section class="stack" part="all-usage" aria-labelledby="heading">
      <div class="spread"><div class="tight grow"><h2 id="heading">${msg('Usage')}</h2>
          <p class="muted">${msg('How many requests all tokens together made, by days of UTC, and which made most of them.')}</p></div>
        <button type="button" @click=${this.usage.load} ?disabled=${isLoading}>${msg('Look again')}</button></div>
      <div class="row">${this.renderChoice('days', msg('Days'), [7, 30, 90, 365].map((days) => [days, msg(str`Last ${days} days`)]))}</div>
      ${this.renderLoading(this.usage)}
      ${data ? html`<div class="stack" aria-busy=${isLoading}><div class="card">${renderChart(data.totals)}</div>
        ${total(data.totals, 'requests') + total(data.totals, 'refused') > 0 ? this.renderLists(data) : nothing}</div>` : nothing}
    </section>`;
  }

  renderChoice(property, label, choices) {
    return html`<div class="field"><label for=${property} class="unseen">${label}</label>
      <select id=${property} @change=${({ target }) => { this[property] = choices[target.selectedIndex][0]; this.usage.load(); }}>
        ${choices.map(([value, text]) => html`<option value=${value} ?selected=${value === this[property]}>${text}</option>`)}</select></div>`;
  }

  renderLists({ order, totals, tokens, users }) {
    const all = total(totals, order);
    const isRefused = order === 'refused';
    const choice = this.renderChoice('order', msg('Order of the lists'), [['requests', msg('Most let through')], ['refused', msg('Most refused')]]);
    return html`
      ${this.renderList(isRefused ? msg('Tokens that were refused most') : msg('Tokens that made most requests'), msg('Token'), tokens, order, all, (row) => html`
        ${row.name === null ? html`<span class="muted">${msg('deleted')}</span>` : html`<bdi class="clamp">${row.name}</bdi>`}
        <span class="small muted">${short(row.key_id)} · ${msg('user')} ${short(row.user_id)}</span>`, choice)}
      ${this.renderList(isRefused ? msg('Users who were refused most') : msg('Users who made most requests'), msg('User'), users, order, all, (row) => html`
        ${row.service_account === null ? html`<code class="any">${row.user_id}</code>` : html`<bdi class="clamp">${row.service_account}</bdi>`}
        <span class="small muted">${row.service_account === null ? nothing : html`${msg('service account')} ${short(row.user_id)} · `}${row.tokens === 1
          ? msg('one token') : msg(str`${number(row.tokens)} tokens`)}</span>`)}`;
  }

  renderList(heading, column, rows, order, all, render, choice = nothing) {
    return html`<div class="tight" part="most"><div class="spread"><h3>${heading}</h3>${choice}</div>
      ${rows.length === 0 ? html`<p class="muted small">${msg('None.')}</p>` : html`<div class="table" tabindex="0" role="region" aria-label=${heading}><table class="folds">
        <thead><tr><th scope="col">${column}</th><th scope="col" class="count">${msg('Let through')}</th><th scope="col" class="count">${msg('Refused')}</th>
          <th scope="col" class="count">${msg('Share')}</th></tr></thead>
        <tbody>${rows.map((row) => html`<tr>
          <th scope="row" class="most"><div class="tight">${render(row)}${renderShare(row[order] / all, order)}</div></th>
          <td class="count" data-label=${msg('let through')}>${number(row.requests)}</td>
          <td class="count" data-label=${msg('refused')}>${number(row.refused)}</td>
          <td class="count" data-label=${msg('of all')}>${percent(row[order] / all)}</td></tr>`)}</tbody></table></div>`}</div>`;
  }
}

/** What the last column says in numbers. */
function renderShare(share, order) {
  return html`<svg class="share" aria-hidden="true" viewBox="0 0 100 1" preserveAspectRatio="none">
    ${svg`<rect class=${order === 'refused' ? 'refused' : 'passed'} width=${Math.min(100, share * 100).toFixed(2)} height="1"></rect>`}</svg>`;
}
