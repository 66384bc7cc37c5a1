// Tokens that are denied wherever the gate looks, whoever signed them. For a client with a trusted role.
import { html, nothing } from 'lit';
import { msg, str } from '@lit/localize';
import { PatElement } from '../element.js';
import { Loader } from '../loader.js';
import { ask } from '../refusal.js';
import { moment, relative } from '../format.js';

const MOST = 200;

export class PatDeniedTokens extends PatElement {
  constructor() {
    super();
    this.denied = new Loader(this, (client) => ask(client.schema('pat').from('denied_tokens')
      .select('message_digest,role,user_id,reason,denied_at,expires_at').order('denied_at', { ascending: false }).limit(MOST)));
  }

  render() {
    const { data } = this.denied;
    return html`<section class="stack" part="denied-tokens" aria-labelledby="heading">
      <div class="spread"><div class="tight grow"><h2 id="heading">${msg('Denied tokens')}</h2>
          <p class="muted">${msg('A leaked login, API key or token is refused from the next request on. What is kept is a digest.')}</p></div>
        <button type="button" class="primary" @click=${() => this.open({ name: 'deny' })}>${msg('Deny a token')}</button></div>
      ${this.renderLoading(this.denied)}
      ${data?.length === 0 ? html`<div class="card empty"><p class="muted">${msg('No token is denied.')}</p></div>` : nothing}
      ${data?.length > 0 ? html`<ul class="list">${data.map((token) => html`<li part="denied"><div class="spread">
        <div class="tight grow"><h3 class="any"><bdi>${token.reason ?? msg('No reason was given')}</bdi></h3>
          <p class="muted small"><bdi>${token.role ?? ''}</bdi> <code title=${token.message_digest}>${token.message_digest.slice(2, 14)}</code> ·
            ${msg(str`denied ${moment(token.denied_at)}`)} · ${token.expires_at ? msg(str`until it expires, ${relative(token.expires_at)}`) : msg('for ever')}</p></div>
        <button type="button" @click=${() => this.open({ name: 'accept', token })}>${msg('Accept again…')}</button></div></li>`)}</ul>` : nothing}
    </section>${this.renderOpenDialog()}`;
  }

  renderOpenDialog() {
    if (this.dialog?.name === 'deny') {
      return this.renderDialog(msg('Deny a token'), (heading) => html`<form @submit=${this.deny} autocomplete="off">${heading}
        <p>${msg('From the next request on it is refused. A personal access token is revoked, with all that was made with it.')}</p>
        <div class="field"><label for="token">${msg('Token')}</label><textarea id="token" name="token" class="mono" spellcheck="false" required autofocus></textarea></div>
        <div class="field"><label for="reason">${msg('Reason')} <span class="muted">${msg('(its user can read it)')}</span></label><input id="reason" name="reason"></div>
        ${this.renderRefusal()}${this.renderActions(msg('Deny'), { isDanger: true })}</form>`);
    }
    if (this.dialog?.name === 'accept') {
      return this.renderDialog(msg('Accept this token again?'), (heading) => html`<form @submit=${this.accept}>${heading}
        <p class="any"><strong><bdi>${this.dialog.token.reason ?? ''}</bdi></strong></p>
        <p>${msg('Whoever has it can use it again until it expires. A personal access token stays revoked.')}</p>
        ${this.renderRefusal()}${this.renderActions(msg('Accept again'), { isDanger: true })}</form>`, { isNarrow: true });
    }
    return nothing;
  }

  deny = (event) => {
    event.preventDefault();
    const { token, reason } = Object.fromEntries(new FormData(event.target));
    this.act(async (client) => {
      await ask(client.schema('pat').rpc('deny_token', { token: token.trim(), ...(reason ? { reason } : {}) }));
      this.tell('pat-token-denied');
      this.closeDialog();
      this.denied.load();
    });
  };

  accept = (event) => {
    event.preventDefault();
    const { message_digest: digest } = this.dialog.token;
    this.act(async (client) => {
      await ask(client.schema('pat').from('denied_tokens').delete().eq('message_digest', digest));
      this.tell('pat-token-accepted');
      this.closeDialog();
      this.denied.load();
    });
  };
}
