// Signing keys: add, make current, revoke, each with what it does. For a client with a trusted role.
import { html, nothing } from 'lit';
import { msg } from '@lit/localize';
import { PatElement } from '../element.js';
import { Loader } from '../loader.js';
import { ask } from '../refusal.js';
import { moment } from '../format.js';

const ALGORITHMS = ['ES256', 'EdDSA', 'RS256', 'HS256', 'HS384', 'HS512'];
const ORDER = ['current', 'standby', 'previous', 'revoked'];
const BADGES = { current: 'good', standby: 'warning', previous: '', revoked: 'bad' };

export class PatSigningKeys extends PatElement {
  constructor() {
    super();
    this.keys = new Loader(this, async (client) => {
      const keys = await ask(client.schema('pat').from('signing_keys').select('kid,status,algorithm,created_at,activated_at,revoked_at').order('created_at', { ascending: false }));
      return keys.sort((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status));
    });
  }

  render() {
    const { data } = this.keys;
    return html`<section class="stack" part="signing-keys" aria-labelledby="heading">
      <div class="spread"><div class="tight grow"><h2 id="heading">${msg('Signing keys')}</h2>
          <p class="muted">${msg('Add a key, publish it to the REST server, then make it current: no token fails meanwhile.')}</p></div>
        <button type="button" class="primary" @click=${() => this.open({ name: 'add' })}>${msg('Add a key')}</button></div>
      ${this.renderLoading(this.keys)}
      ${data?.length === 0 ? html`<div class="card empty"><h3>${msg('There are no keys')}</h3>
        <p class="muted">${msg('The configured secret signs. A key takes its place once it is current.')}</p></div>` : nothing}
      ${data?.length > 0 ? html`<ul class="list">${data.map((key) => html`<li part="key"><div class="tight">
        <div class="spread"><h3 class="any grow"><bdi>${key.kid}</bdi></h3><span class="badge ${BADGES[key.status]}">${statusName(key.status)}</span></div>
        <p class="muted small">${key.algorithm} · ${statusMeaning(key.status)} · ${moment(key.revoked_at ?? key.activated_at ?? key.created_at)}</p>
        ${key.status === 'current' || key.status === 'revoked' ? nothing : html`<div class="row">
          <button type="button" @click=${() => this.open({ name: 'rotate', key })}>${msg('Make it current…')}</button>
          <button type="button" class="danger" @click=${() => this.open({ name: 'revoke', key })}>${msg('Revoke…')}</button></div>`}
      </div></li>`)}</ul>` : nothing}
    </section>${this.renderOpenDialog()}`;
  }

  renderOpenDialog() {
    if (this.dialog?.name === 'add') {
      return this.renderDialog(msg('Add a signing key'), (heading) => html`<form @submit=${this.add} autocomplete="off">${heading}
        <p>${msg('It is made in the database and verifies at once. It signs nothing before you make it current.')}</p>
        <div class="field"><label for="alg">${msg('Algorithm')}</label><select id="alg" name="alg">${ALGORITHMS.map((name) => html`<option>${name}</option>`)}</select>
          <p class="small muted">${msg('ES256 is understood everywhere. With HS…, whoever verifies can also sign.')}</p></div>
        <div class="field"><label for="kid">${msg('Key id')} <span class="muted">${msg('(optional)')}</span></label><input id="kid" name="kid" maxlength="200" spellcheck="false"></div>
        ${this.renderRefusal()}${this.renderActions(msg('Add'))}</form>`, { isNarrow: true });
    }
    if (this.dialog?.name === 'rotate') {
      return this.renderQuestion(msg('Make this key current?'), [
        msg('It signs all new tokens and logins from now on.'),
        msg('The one before goes on verifying what it has signed.'),
        msg('The REST server must know it already: publish the key set first.'),
      ], msg('Make it current'), this.rotate);
    }
    if (this.dialog?.name === 'revoke') {
      return this.renderQuestion(msg('Revoke this key?'), [
        msg('It verifies nothing here any more, and never will again.'),
        msg('All personal access tokens that it has signed are revoked.'),
        msg('Sessions under it end with their next refresh.'),
        msg('The REST server accepts what it signed until it has the new key set.'),
      ], msg('Revoke'), this.revoke, true);
    }
    return nothing;
  }

  renderQuestion(title, effects, label, submit, isDanger = false) {
    return this.renderDialog(title, (heading) => html`<form @submit=${submit}>${heading}
      <p class="any"><strong><bdi>${this.dialog.key.kid}</bdi></strong></p>
      <ul class="points">${effects.map((effect) => html`<li>${effect}</li>`)}</ul>
      ${this.renderRefusal()}${this.renderActions(label, { isDanger })}</form>`, { isNarrow: true });
  }

  add = (event) => {
    event.preventDefault();
    const { alg, kid } = Object.fromEntries(new FormData(event.target));
    this.change('pat-signing-key-added', (pat) => pat.rpc('add_signing_key', { alg, ...(kid ? { kid } : {}) }));
  };

  rotate = (event) => {
    event.preventDefault();
    const { kid } = this.dialog.key;
    this.change('pat-signing-key-rotated', (pat) => pat.rpc('rotate_signing_key', { kid }), kid);
  };

  revoke = (event) => {
    event.preventDefault();
    const { kid } = this.dialog.key;
    this.change('pat-signing-key-revoked', (pat) => pat.rpc('revoke_signing_key', { kid }), kid);
  };

  change(name, call, kid) {
    this.act(async (client) => {
      const answer = await ask(call(client.schema('pat')));
      this.tell(name, { kid: kid ?? answer });
      this.closeDialog();
      this.keys.load();
    });
  }
}

function statusName(status) {
  return { current: msg('Current'), standby: msg('On standby'), previous: msg('Previous'), revoked: msg('Revoked') }[status] ?? status;
}

function statusMeaning(status) {
  return {
    current: msg('signs and verifies'), standby: msg('verifies, does not sign yet'), previous: msg('verifies what it has signed'), revoked: msg('neither signs nor verifies'),
  }[status] ?? status;
}
