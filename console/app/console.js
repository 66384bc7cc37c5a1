// The page's frame: who is signed in, what is shown, and the way from one to the other.
import { css, html, nothing } from 'lit';
import { msg } from '@lit/localize';
import { LANGUAGES, getLocale, setLocale } from '../src/locale.js';
import { PatElement } from '../src/element.js';
import { ask } from '../src/refusal.js';

const look = css`
  :host { min-block-size: 100dvh; display: grid; grid-template-rows: auto 1fr auto; }
  header { background: var(--_surface); border-block-end: 1px solid var(--_line); }
  .wide { inline-size: min(60rem, 100%); margin-inline: auto; padding-inline: clamp(0.75rem, 4vw, 1.5rem); }
  .top { display: flex; flex-wrap: wrap; align-items: center; gap: 0.25rem 1.5rem; padding-block: 0.75rem; }
  h1 { font-size: 1rem; font-weight: 700; margin: 0; display: flex; gap: 0.625rem; align-items: center; }
  h1 svg { inline-size: 1.75rem; block-size: 1.75rem; }
  nav { display: flex; flex-wrap: wrap; gap: 0.25rem; }
  nav a { color: var(--_muted); text-decoration: none; font-weight: 550; padding: 0.375rem 0.625rem; border-radius: 6px; }
  nav a:hover { color: var(--_text); background: var(--_sunken); }
  nav a[aria-current] { color: var(--_accent); background: var(--_sunken); }
  .who { margin-inline-start: auto; max-inline-size: 16rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  main { padding-block: clamp(1.25rem, 4vw, 2.5rem); }
  main:focus-visible { outline: none; }
  .door { inline-size: min(25rem, 100%); margin-inline: auto; }
  footer { border-block-start: 1px solid var(--_line); padding-block: 0.75rem; color: var(--_muted); }
  footer select { inline-size: auto; min-block-size: 0; padding-block: 0.125rem; }
  @media (max-width: 34rem) { .who { display: none; } }
`;

const OPERATOR = ['doctor', 'usage', 'keys', 'inspector', 'events', 'denied'];

export class PatConsole extends PatElement {
  static styles = [...PatElement.styles, look];

  static properties = {
    route: { state: true },
    user: { state: true },
    problem: { state: true },
    operator: { state: true },
    isReady: { state: true },
  };

  connectedCallback() {
    super.connectedCallback();
    this.route = read();
    window.addEventListener('hashchange', this.follow);
    this.start();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    window.removeEventListener('hashchange', this.follow);
  }

  async start() {
    try {
      const { client, title, hasOperator, asOperator } = await PatConsole.connect();
      Object.assign(this, { title_: title, hasOperator, asOperator });
      client.auth.onAuthStateChange((_, session) => {
        this.user = session?.user;
        this.isReady = true;
      });
      this.client = client;
    } catch (error) {
      this.problem = error.message;
    }
  }

  follow = async () => {
    this.route = read();
    this.refusal = undefined;
    await this.updateComplete;
    this.renderRoot.querySelector('main')?.focus({ preventScroll: true });
  };

  updated(changed) {
    super.updated(changed);
    document.documentElement.lang = getLocale();
    document.title = this.name;
  }

  get name() {
    return this.title_ ?? msg('Access tokens');
  }

  render() {
    return html`<header><div class="wide top">
        <h1>${ICON}<bdi>${this.name}</bdi></h1>
        ${this.user || this.hasOperator ? html`<nav aria-label=${msg('Pages')}>
          ${this.user ? [['tokens', msg('Tokens')], ['settings', msg('Settings')], ['account', msg('Account')]].map((page) => this.renderLink(...page))
            : this.renderLink('sign-in', msg('Sign in'))}
          ${this.hasOperator ? this.renderLink('operator', msg('Operator')) : nothing}</nav>` : nothing}
        ${this.user ? html`<span class="who small muted"><bdi>${this.user.email ?? ''}</bdi></span>` : nothing}
      </div></header>
      <main class="wide" tabindex="-1" @pat-forgotten=${() => go('forgotten')} @pat-sign-in=${() => go('sign-in')}
        @pat-signed-in=${() => go('tokens')} @pat-signed-out=${({ detail }) => { if (detail.scope !== 'others') go('sign-in'); }}>
        ${this.renderPage()}
      </main>
      <footer><div class="wide row"><label for="language" class="small">${msg('Language')}</label>
        <select id="language" class="small" @change=${this.speak}>${Object.entries(LANGUAGES).map(([tag, name]) => html`
          <option value=${tag} lang=${tag} ?selected=${tag === getLocale()}>${name}</option>`)}</select></div></footer>`;
  }

  renderLink(page, label) {
    return html`<a href="#/${page}" aria-current=${this.page.split('/')[0] === page ? 'page' : nothing}>${label}</a>`;
  }

  /** The page that is shown: the one that was asked for, if it can be shown to whoever is there. */
  get page() {
    if (this.route.startsWith('operator') && this.hasOperator) return this.route;
    if (this.route === 'forgotten') return this.route;
    if (!this.user) return 'sign-in';
    return ['settings', 'account'].includes(this.route) ? this.route : 'tokens';
  }

  renderPage() {
    if (this.problem) return html`<div class="door notice bad" role="alert"><p><strong>${msg('This page is not set up.')}</strong></p><p>${this.problem}</p></div>`;
    if (!this.isReady) return html`<div class="bar" role="progressbar" aria-label=${msg('Loading')}></div>`;
    const { client } = this;
    switch (this.page) {
      case 'tokens': return html`<pat-tokens .client=${client}></pat-tokens>`;
      case 'settings': return html`<pat-settings .client=${client}></pat-settings>`;
      case 'account': return html`<pat-account .client=${client}></pat-account>`;
      case 'forgotten': return html`<pat-reset-password class="door" .client=${client}></pat-reset-password>`;
      case 'sign-in': return html`<pat-sign-in class="door" .client=${client}></pat-sign-in>`;
      default: return this.operator ? this.renderOperator(this.operator) : this.renderOperatorDoor();
    }
  }

  renderOperatorDoor() {
    return html`<form class="card stack door" @submit=${this.enter} autocomplete="off" aria-labelledby="operator">
      <h2 id="operator">${msg('For the operator')}</h2>
      <p>${msg('With a key of the service role you see how the server stands, its signing keys and its events.')}</p>
      <div class="field"><label for="key">${msg('Key of the service role')}</label>
        <input id="key" type="password" autocomplete="off" required aria-describedby="key-help">
        <p class="small muted" id="key-help">${msg('It stays in the memory of this page, and a reload forgets it.')}</p></div>
      ${this.renderRefusal()}
      <button type="submit" class="primary" ?disabled=${this.isBusy}>${msg('Go on')}</button>
    </form>`;
  }

  renderOperator(client) {
    const [, chosen] = this.route.split('/');
    const page = OPERATOR.includes(chosen) ? chosen : 'doctor';
    const names = { doctor: msg('Doctor'), usage: msg('Usage'), keys: msg('Signing keys'), inspector: msg('Key inspector'), events: msg('Events'), denied: msg('Denied tokens') };
    return html`<div class="stack">
      <div class="spread"><nav aria-label=${msg('Operator')}>${OPERATOR.map((name) => html`<a href="#/operator/${name}" aria-current=${name === page ? 'page' : nothing}>${names[name]}</a>`)}</nav>
        <button type="button" class="plain" @click=${this.leave}>${msg('Forget the key')}</button></div>
      ${{
        doctor: () => html`<pat-doctor .client=${client}></pat-doctor>`,
        usage: () => html`<pat-usage .client=${client}></pat-usage>`,
        keys: () => html`<pat-signing-keys .client=${client}></pat-signing-keys>`,
        inspector: () => html`<pat-key-inspector .client=${client}></pat-key-inspector>`,
        events: () => html`<pat-events .client=${client}></pat-events>`,
        denied: () => html`<pat-denied-tokens .client=${client}></pat-denied-tokens>`,
      }[page]()}</div>`;
  }

  enter = (event) => {
    event.preventDefault();
    const field = this.renderRoot.querySelector('#key');
    this.act(async () => {
      const client = this.asOperator(field.value.trim());
      await ask(client.schema('pat').rpc('status'));
      field.value = '';
      this.operator = client;
    });
  };

  leave = () => {
    this.operator = undefined;
    go('operator');
  };

  speak = async ({ target }) => {
    localStorage.setItem('pat-language', target.value);
    await setLocale(target.value);
    this.requestUpdate();
  };
}

const ICON = html`<svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" fill="#0b6b5e"/><g fill="none" stroke="#fff" stroke-width="2.6" stroke-linecap="round"><circle cx="11.5" cy="16" r="4.7"/><path d="M16.5 16H26M22.5 16v4.6"/></g></svg>`;

function read() {
  return location.hash.replace(/^#\/?/, '');
}

function go(page) {
  location.hash = `#/${page}`;
}
