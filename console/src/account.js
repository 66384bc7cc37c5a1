// Who is signed in, and signing out: here, elsewhere, everywhere.
import { html, nothing } from 'lit';
import { msg, str } from '@lit/localize';
import { PatElement } from './element.js';
import { Loader } from './loader.js';
import { Refusal, askAuth } from './refusal.js';
import { moment } from './format.js';
import { signOut } from './session.js';

export class PatAccount extends PatElement {
  static properties = { done: { state: true } };

  constructor() {
    super();
    this.account = new Loader(this, async (client) => {
      const { session } = await askAuth(client.auth.getSession());
      if (!session) throw new Refusal({ message: msg('Nobody is signed in.'), status: 401 });
      return session.user;
    });
  }

  forget() {
    this.done = undefined;
  }

  render() {
    const { data } = this.account;
    return html`<section class="stack" part="account" aria-labelledby="heading">
      <h2 id="heading">${msg('Account')}</h2>
      ${this.renderLoading(this.account)}
      ${data ? html`<div class="card stack">
        <dl>
          <dt>${msg('E-mail address')}</dt><dd><bdi>${data.email ?? '—'}</bdi></dd>
          <dt>${msg('Since')}</dt><dd>${moment(data.created_at)}</dd>
          <dt>${msg('User')}</dt><dd><code>${data.id}</code></dd>
        </dl>
      </div>
      <div class="card stack">
        <div class="tight"><h3>${msg('Sign out')}</h3>
          <p class="muted">${msg('Whoever is signed out has to sign in again. Tokens go on working.')}</p></div>
        ${this.renderRefusal()}
        ${this.done ? html`<p class="notice good" role="status">${this.done}</p>` : nothing}
        <div class="row">
          <button type="button" ?disabled=${this.isBusy} @click=${() => this.out('local')}>${msg('Sign out here')}</button>
          <button type="button" ?disabled=${this.isBusy} @click=${() => this.out('others')}>${msg('Sign out elsewhere')}</button>
          <button type="button" class="danger" ?disabled=${this.isBusy} @click=${() => this.out('global')}>${msg('Sign out everywhere')}</button>
        </div>
      </div>` : nothing}
    </section>`;
  }

  out(scope) {
    const email = this.account.data?.email;
    this.act(async (client) => {
      await signOut(client, scope);
      this.done = scope === 'others' ? msg(str`${email} is signed in here alone.`) : undefined;
      this.tell('pat-signed-out', { scope });
    });
  }
}
