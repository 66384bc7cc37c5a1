// Scopes as checkboxes: everything, or what is chosen of tables, functions and the account.
import { html, nothing } from 'lit';
import { msg, str } from '@lit/localize';
import { PatElement } from './element.js';
import { OWN_SCOPES } from './catalogue.js';

/** With more tables and functions than this, there is a field to find one. */
const MANY = 12;
const MOST = 64;

/** Tells `change` with the scopes in `value`: a list, or null for everything. */
export class PatScopes extends PatElement {
  static properties = {
    value: { attribute: false },
    catalogue: { attribute: false },
    /** The scopes that may be chosen; null for all. */
    within: { attribute: false },
    find: { state: true },
  };

  constructor() {
    super();
    this.value = null;
    this.within = null;
    this.find = '';
  }

  set(scopes) {
    this.value = scopes;
    this.dispatchEvent(new Event('change'));
  }

  toggle = ({ target }) => {
    const others = this.value.filter((scope) => scope !== target.value);
    this.set(target.checked ? [...others, target.value] : others);
  };

  addOther = () => {
    const field = this.renderRoot.querySelector('#other');
    const scopes = field.value.split(/[\s,]+/).filter(Boolean);
    field.value = '';
    this.set([...new Set([...this.value, ...scopes])]);
  };

  render() {
    if (this.within) return html`<ul class="tight">${this.within.map((scope) => html`<li>${this.check(scope)}</li>`)}</ul>`;
    return html`<div class="stack">
      <div class="tight" role="radiogroup" aria-label=${msg('What it may do')}>
        <label class="check"><input type="radio" name="all" .checked=${this.value === null} @change=${() => this.set(null)}>
          <span>${msg('Everything that you may do')}
            <span class="small muted">${msg('except making and ending tokens')}</span></span></label>
        <label class="check"><input type="radio" name="all" .checked=${this.value !== null} @change=${() => this.set([])}>
          <span>${msg('Only what is chosen here')}</span></label>
      </div>
      ${this.value === null ? nothing : this.renderChoice()}
    </div>`;
  }

  renderChoice() {
    const { tables, functions } = this.catalogue ?? { tables: [], functions: [] };
    const isFound = (name) => name.toLowerCase().includes(this.find.toLowerCase());
    const shownTables = tables.filter(({ name }) => isFound(name));
    const labels = { read: msg('Read'), write: msg('Write'), delete: msg('Delete') };
    const shownFunctions = functions.filter(isFound);
    const offered = new Set([
      ...tables.flatMap(({ name, actions }) => actions.map((action) => `${name}:${action}`)),
      ...functions.map((name) => `rpc/${name}:call`), ...OWN_SCOPES,
    ]);
    const others = this.value.filter((scope) => !offered.has(scope));
    return html`<div class="stack">
      ${tables.length + functions.length > MANY ? html`<div class="field">
        <label for="find">${msg('Find a table or function')}</label>
        <input id="find" type="search" .value=${this.find} @input=${({ target }) => { this.find = target.value; }}></div>` : nothing}
      ${shownTables.length === 0 ? nothing : html`<div class="table"><table class="folds">
        <caption class="unseen">${msg('Tables')}</caption>
        <thead><tr><th scope="col">${msg('Table')}</th>${Object.values(labels).map((label) => html`<th scope="col">${label}</th>`)}</tr></thead>
        <tbody>${shownTables.map(({ name, actions }) => html`<tr>
          <th scope="row" class="any"><bdi>${name}</bdi></th>
          ${['read', 'write', 'delete'].map((action) => (actions.includes(action)
            ? html`<td data-label=${labels[action]}>${this.box(`${name}:${action}`, `${name}: ${action}`)}</td>` : html`<td></td>`))}
        </tr>`)}</tbody></table></div>`}
      ${shownFunctions.length === 0 ? nothing : html`<fieldset class="tight"><legend class="label">${msg('Functions')}</legend>
        ${shownFunctions.map((name) => this.check(`rpc/${name}:call`, name))}</fieldset>`}
      <fieldset class="tight"><legend class="label">${msg('Your account')}</legend>
        ${OWN_SCOPES.map((scope) => this.check(scope, this.own(scope)))}</fieldset>
      ${others.length === 0 ? nothing : html`<fieldset class="tight"><legend class="label">${msg('Others')}</legend>
        ${others.map((scope) => this.check(scope))}</fieldset>`}
      <div class="row">
        <div class="field grow"><label for="other">${msg('Another scope')}</label>
          <input id="other" placeholder="invoices:read" autocomplete="off" spellcheck="false"
            @keydown=${(event) => { if (event.key === 'Enter') { event.preventDefault(); this.addOther(); } }}></div>
        <button type="button" class="below" @click=${this.addOther}>${msg('Add')}</button>
      </div>
      <p class="small muted" role="status">${msg(str`${this.value.length} of at most ${MOST} chosen`)}</p>
    </div>`;
  }

  own(scope) {
    return {
      'tokens:read': msg('See your tokens'),
      'tokens:write': msg('Make and rotate tokens'),
      'tokens:delete': msg('End your other tokens'),
      'user:read': msg('See who you are'),
      'settings:read': msg('See your settings'),
      'settings:write': msg('Change your settings'),
    }[scope];
  }

  check(scope, label) {
    return html`<label class="check">${this.box(scope)}<span class="any">${label ? html`<bdi>${label}</bdi> ` : nothing}${
      label === scope ? nothing : html`<code class=${label ? 'muted' : ''}><bdi>${scope}</bdi></code>`}</span></label>`;
  }

  box(scope, label) {
    return html`<input type="checkbox" value=${scope} aria-label=${label ?? nothing} .checked=${this.value.includes(scope)}
      ?disabled=${!this.value.includes(scope) && this.value.length >= MOST} @change=${this.toggle}>`;
  }
}
