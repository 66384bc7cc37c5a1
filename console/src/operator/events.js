// The trail of events, latest first. For a client with a trusted role.
import { html, nothing } from 'lit';
import { msg } from '@lit/localize';
import { PatElement } from '../element.js';
import { Loader } from '../loader.js';
import { ask } from '../refusal.js';
import { moment } from '../format.js';
import { eventName, refusalName } from '../event_names.js';
import { short } from './short_id.js';

const PAGE = 50;
const EVENTS = [
  'refused', 'token_minted', 'token_rotated', 'token_revoked', 'token_deleted', 'token_denied', 'token_leaked', 'token_edited', 'token_disabled',
  'token_enabled', 'token_imported', 'service_account_created', 'service_account_deleted', 'signed_up', 'signed_in', 'sign_in_refused', 'session_minted', 'session_expired', 'refresh_refused',
  'refresh_token_reused', 'password_reset', 'reset_code_refused', 'jwt_signed', 'api_key_minted',
];

export class PatEvents extends PatElement {
  static properties = { event: { state: true } };

  constructor() {
    super();
    this.event = '';
    this.events = new Loader(this, async (client) => ({ rows: await this.page(client) }));
  }

  /** The latest events, or those before one. */
  page(client, before) {
    let query = client.schema('pat').from('events').select('id,happened_at,event,user_id,key_id,role,address,count,detail').order('id', { ascending: false }).limit(PAGE);
    if (this.event) query = query.eq('event', this.event);
    if (before) query = query.lt('id', before);
    return ask(query);
  }

  render() {
    const { data } = this.events;
    return html`<section class="stack" part="events" aria-labelledby="heading">
      <div class="spread"><div class="tight grow"><h2 id="heading">${msg('Events')}</h2>
          <p class="muted">${msg('What happened to tokens, logins and codes. No secret is in it.')}</p></div>
        <div class="field"><label for="event" class="unseen">${msg('Only these')}</label>
          <select id="event" @change=${({ target }) => { this.event = target.value; this.events.load(); }}>
            <option value="">${msg('All events')}</option>${EVENTS.map((event) => html`<option value=${event}>${eventName(event)}</option>`)}</select></div></div>
      ${this.renderLoading(this.events)}${this.renderRefusal()}
      ${data?.rows.length === 0 ? html`<div class="card empty"><p class="muted">${msg('Nothing yet.')}</p></div>` : nothing}
      ${data?.rows.length > 0 ? html`<div class="table" tabindex="0" role="region" aria-label=${msg('All events')}><table>
        <thead><tr><th scope="col">${msg('When')}</th><th scope="col">${msg('What')}</th><th scope="col">${msg('Whose')}</th><th scope="col">${msg('By')}</th></tr></thead>
        <tbody>${data.rows.map((row) => html`<tr part="event">
          <td class="small nowrap">${moment(row.happened_at)}</td>
          <td><strong class="any">${eventName(row.event)}</strong>${row.count > 1 ? ` × ${row.count}` : ''}${row.detail ? html`<br><bdi class="small muted any">${row.event === 'refused' ? refusalName(row.detail) : row.detail}</bdi>` : nothing}</td>
          <td class="small">${row.user_id ? html`<div><span class="muted">${msg('user')}</span> ${short(row.user_id)}</div>` : nothing}${row.key_id ? html`<div><span class="muted">${msg('token')}</span> ${short(row.key_id)}</div>` : nothing}</td>
          <td class="small"><bdi>${row.role ?? ''}</bdi>${row.address ? html`<div class="mono">${row.address}</div>` : nothing}</td></tr>`)}</tbody></table></div>
        ${data.isEnd || data.rows.length < PAGE ? nothing : html`<div><button type="button" @click=${this.more} ?disabled=${this.isBusy}>${msg('Earlier events')}</button></div>`}` : nothing}
    </section>`;
  }

  more = () => this.act(async (client) => {
    const { rows } = this.events.data;
    const earlier = await this.page(client, rows.at(-1).id);
    this.events.data = { rows: [...rows, ...earlier], isEnd: earlier.length < PAGE };
  });
}
