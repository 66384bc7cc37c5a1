// A forgotten password: ask for a code, then set another password with it.
import { html, nothing } from 'lit';
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
    this.restart();
  }

  /** Begins anew. What a submitted form is still doing goes on to its end. */
  restart = () => {
    if (!this.isBusy) this.#pending?.recovery?.leave();
    this.#pending = undefined;
    this.refusal = undefined;
    this.view = 'ask';
  };

  render() {
    if (this.view === 'done') {
      return html`<div class="card stack" part="form"><h2>${msg('Your password is set')}</h2>
        <p>${msg('You are signed out everywhere, and your tokens have ended. Sign in with the new password.')}</p>
        <div><button type="button" class="primary" @click=${() => this.tell('pat-sign-in')}>${msg('Sign in')}</button></div></div>`;
    }
    if (this.view === 'set') return this.#pending.recovery?.isSet ? this.renderRest() : this.renderSet();
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

  renderSet() {
    const wantsCode = !this.#pending.recovery?.isVerified;
    return html`<form class="card stack" part="form" aria-labelledby="heading" @submit=${this.set}>
      <h2 id="heading">${msg('Set a new password')}</h2>
      <p>${wantsCode ? msg('If there is an account with that address, a code has been sent to it.')
        : msg('The code was right, and is used up. Only the password is missing.')}</p>
      ${wantsCode ? html`<div class="field"><label for="code">${msg('Code')}</label>
        <input id="code" name="code" autocomplete="one-time-code" inputmode="numeric" class="mono" required autofocus></div>` : nothing}
      <div class="field"><label for="password">${msg('New password')}</label>
        <input id="password" name="password" type="password" autocomplete="new-password" required></div>
      <p class="small muted">${msg('This signs you out everywhere and ends all of your tokens.')}</p>
      ${this.renderRefusal()}
      <button type="submit" class="primary" ?disabled=${this.isBusy}>${msg('Set the password')}</button>
      <div><button type="button" class="plain" ?disabled=${this.isBusy} @click=${this.restart}>${msg('Ask for another code')}</button></div>
    </form>`;
  }

  /** The password is set, and something after it was refused. */
  renderRest() {
    return html`<form class="card stack" part="form" aria-labelledby="heading" @submit=${this.set}>
      <h2 id="heading">${msg('Your password is set')}</h2>
      <p><strong>${this.#pending.recovery.hasRevoked ? msg('Your tokens have ended, but you could not be signed out.')
        : msg('Your tokens have not ended, and other logins may go on: whoever has one can still use it.')}</strong></p>
      ${this.renderRefusal()}
      <p>${msg('Try again. If that does not help, sign in with the new password, revoke all tokens, and sign out everywhere.')}</p>
      <button type="submit" class="primary" ?disabled=${this.isBusy}>${msg('Try again')}</button>
      <div><button type="button" class="plain" ?disabled=${this.isBusy} @click=${() => this.tell('pat-sign-in')}>${msg('Back to signing in')}</button></div>
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
    const pending = this.#pending;
    const given = Object.fromEntries(new FormData(event.target));
    this.act(async (client) => {
      try {
        await resetPassword(client, pending, given);
      } finally {
        if (pending !== this.#pending) pending.recovery?.leave();
      }
      this.#pending = undefined;
      this.view = 'done';
      this.tell('pat-password-reset');
    });
  };
}
