// Signing in and signing up, with the code that confirms an address.
import { html, nothing } from 'lit';
import { msg } from '@lit/localize';
import { PatElement } from './element.js';
import { confirmSignUp, signIn, signUp } from './session.js';

export class PatSignIn extends PatElement {
  static properties = {
    /** `rpc` for the functions of the extension, `auth` for Supabase Auth; without it, the server says. */
    way: { type: String },
    /** Whether there is no signing up. */
    noSignUp: { type: Boolean, attribute: 'no-sign-up' },
    view: { state: true },
  };

  #pending;

  constructor() {
    super();
    this.noSignUp = false;
    this.view = 'signIn';
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.#pending = undefined;
  }

  /** The page may take the session itself, and prevent that the client does. It is in this event alone. */
  keep = (session) => this.tell('pat-session', { session }, { cancelable: true });

  go(view) {
    this.refusal = undefined;
    this.view = view;
  }

  render() {
    if (this.view === 'confirm') return this.renderConfirm();
    const isNew = this.view === 'signUp';
    return html`<form class="card stack" part="form" aria-labelledby="heading" @submit=${isNew ? this.signUp : this.signIn}>
      <h2 id="heading">${isNew ? msg('Sign up') : msg('Sign in')}</h2>
      <div class="field"><label for="email">${msg('E-mail address')}</label>
        <input id="email" name="email" type="email" autocomplete="username" required></div>
      <div class="field"><label for="password">${msg('Password')}</label>
        <input id="password" name="password" type="password" autocomplete=${isNew ? 'new-password' : 'current-password'} required></div>
      ${this.renderRefusal()}
      <button type="submit" class="primary" ?disabled=${this.isBusy}>${isNew ? msg('Sign up') : msg('Sign in')}</button>
      <div class="spread">
        ${this.noSignUp ? nothing : html`<button type="button" class="plain" @click=${() => this.go(isNew ? 'signIn' : 'signUp')}>${
          isNew ? msg('I have an account') : msg('Make an account')}</button>`}
        ${isNew ? nothing : html`<button type="button" class="plain" @click=${() => this.tell('pat-forgotten')}>${msg('Forgotten password')}</button>`}
      </div>
    </form>`;
  }

  renderConfirm() {
    return html`<form class="card stack" part="form" aria-labelledby="heading" @submit=${this.confirm}>
      <h2 id="heading">${msg('Confirm your address')}</h2>
      <p>${msg('If the address is new here, a code has been sent to it.')}</p>
      <div class="field"><label for="code">${msg('Code')}</label>
        <input id="code" name="code" autocomplete="one-time-code" inputmode="numeric" class="mono" required autofocus></div>
      ${this.renderRefusal()}
      <button type="submit" class="primary" ?disabled=${this.isBusy}>${msg('Confirm')}</button>
      <div><button type="button" class="plain" @click=${() => this.go('signIn')}>${msg('Back to signing in')}</button></div>
    </form>`;
  }

  signIn = (event) => {
    event.preventDefault();
    const { email, password } = Object.fromEntries(new FormData(event.target));
    this.act(async (client) => {
      await signIn(client, { email, password, way: this.way }, this.keep);
      this.tell('pat-signed-in');
    });
  };

  signUp = (event) => {
    event.preventDefault();
    const { email, password } = Object.fromEntries(new FormData(event.target));
    this.act(async (client) => {
      this.#pending = await signUp(client, { email, password, way: this.way }, this.keep);
      this.tell('pat-signed-up', { isConfirmed: this.#pending === undefined });
      if (this.#pending) this.go('confirm');
      else this.tell('pat-signed-in');
    });
  };

  confirm = (event) => {
    event.preventDefault();
    const { code } = Object.fromEntries(new FormData(event.target));
    this.act(async (client) => {
      await confirmSignUp(client, this.#pending, code, this.keep);
      this.#pending = undefined;
      this.tell('pat-signed-in');
    });
  };
}
