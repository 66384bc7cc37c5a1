// A forgotten password: ask for a code, then set another password with it.
import { html } from 'lit';
import { msg } from '@lit/localize';
import { PatElement } from './element.js';
import { requestReset, resetPassword } from './session.js';

export class PatResetPassword extends PatElement {
  static properties = {
    /** `rpc` for the functions of the extension, `auth` for Supabase Auth. Without it, that of the last login, or what the server says. */
    way: { type: String },
    view: { state: true },
  };

  #pending;

  constructor() {
    super();
    this.view = 'ask';
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.#pending = undefined;
  }

  render() {
    if (this.view === 'done') {
      return html`<div class="card stack" part="form"><h2>${msg('Your password is set')}</h2>
        <p>${msg('You are signed out everywhere, and your tokens have ended. Sign in with the new password.')}</p>
        <div><button type="button" class="primary" @click=${() => this.tell('pat-sign-in')}>${msg('Sign in')}</button></div></div>`;
    }
    if (this.view === 'set') {
      return html`<form class="card stack" part="form" aria-labelledby="heading" @submit=${this.set}>
        <h2 id="heading">${msg('Set a new password')}</h2>
        <p>${msg('If there is an account with that address, a code has been sent to it.')}</p>
        <div class="field"><label for="code">${msg('Code')}</label>
          <input id="code" name="code" autocomplete="one-time-code" inputmode="numeric" class="mono" required autofocus></div>
        <div class="field"><label for="password">${msg('New password')}</label>
          <input id="password" name="password" type="password" autocomplete="new-password" required></div>
        <p class="small muted">${msg('This signs you out everywhere and ends all of your tokens.')}</p>
        ${this.renderRefusal()}
        <button type="submit" class="primary" ?disabled=${this.isBusy}>${msg('Set the password')}</button>
        <div><button type="button" class="plain" @click=${() => { this.view = 'ask'; this.refusal = undefined; }}>${msg('Ask for another code')}</button></div>
      </form>`;
    }
    return html`<form class="card stack" part="form" aria-labelledby="heading" @submit=${this.ask}>
      <h2 id="heading">${msg('Forgotten password')}</h2>
      <p>${msg('You get a code by e-mail, with which you set another password.')}</p>
      <div class="field"><label for="email">${msg('E-mail address')}</label>
        <input id="email" name="email" type="email" autocomplete="username" required></div>
      ${this.renderRefusal()}
      <button type="submit" class="primary" ?disabled=${this.isBusy}>${msg('Send me a code')}</button>
      <div><button type="button" class="plain" @click=${() => this.tell('pat-sign-in')}>${msg('Back to signing in')}</button></div>
    </form>`;
  }

  ask = (event) => {
    event.preventDefault();
    const { email } = Object.fromEntries(new FormData(event.target));
    this.act(async (client) => {
      this.#pending = await requestReset(client, { email, ...(this.way ? { way: this.way } : {}) });
      this.view = 'set';
    });
  };

  set = (event) => {
    event.preventDefault();
    const { code, password } = Object.fromEntries(new FormData(event.target));
    this.act(async (client) => {
      await resetPassword(client, this.#pending, code, password);
      this.#pending = undefined;
      this.view = 'done';
      this.tell('pat-password-reset');
    });
  };
}
