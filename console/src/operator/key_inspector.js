// What a key or token is, and what is wrong with it. The text goes to `pat.inspect_api_key()` and nowhere else.
import { html, nothing } from 'lit';
import { msg, str } from '@lit/localize';
import { PatElement } from '../element.js';
import { ask } from '../refusal.js';
import { moment } from '../format.js';

export class PatKeyInspector extends PatElement {
  static properties = { report: { state: true } };

  render() {
    return html`<section class="stack" part="key-inspector" aria-labelledby="heading">
      <div class="tight"><h2 id="heading">${msg('Key inspector')}</h2>
        <p class="muted">${msg('What an API key or a token is, and what is wrong with it. It is not kept.')}</p></div>
      <form class="card stack" @submit=${this.inspect} autocomplete="off">
        <div class="field"><label for="key">${msg('Key or token')}</label>
          <textarea id="key" class="mono" spellcheck="false" required></textarea></div>
        ${this.renderRefusal()}
        <div class="row"><button type="submit" class="primary" ?disabled=${this.isBusy}>${msg('Inspect')}</button>
          <button type="reset" @click=${() => { this.report = undefined; this.refusal = undefined; }}>${msg('Clear')}</button></div>
      </form>
      <div aria-live="polite">${this.report ? this.renderReport(this.report) : nothing}</div>
    </section>`;
  }

  renderReport({ problems, ...report }) {
    const row = (label, value) => (value ? html`<dt>${label}</dt><dd><bdi>${value}</bdi></dd>` : nothing);
    return html`<div class="card stack">
      <dl>${row(msg('What it is'), formatName(report.format))}${row(msg('Signature'), signatureName(report.signature))}
        ${row(msg('Role'), report.role)}${row(msg('Project'), report.ref)}${row(msg('Issuer'), report.iss)}
        ${row(msg('Made'), report.issued_at && moment(report.issued_at))}${row(msg('Expires'), report.expires_at && moment(report.expires_at))}
        ${row(msg('Length'), msg(str`${report.length} characters`))}</dl>
      ${problems?.length === 0 ? html`<p class="notice good">${msg('Nothing is wrong with it.')}</p>`
        : html`<ul class="stack">${(problems ?? []).map((problem) => html`<li class="notice warning"><bdi lang="en">${problem}</bdi></li>`)}</ul>`}
    </div>`;
  }

  inspect = (event) => {
    event.preventDefault();
    const key = this.renderRoot.querySelector('#key').value;
    this.act(async (client) => {
      this.report = undefined;
      this.report = await ask(client.schema('pat').rpc('inspect_api_key', { key }));
    });
  };
}

function formatName(format) {
  return {
    legacy_jwt: msg('An API key that is a JWT'), publishable: msg('A publishable API key'), secret: msg('A secret API key'),
    user_jwt: msg('The access token of a login'), personal_access_token: msg('A personal access token'), unknown: msg('Nothing that is known'),
  }[format] ?? format;
}

function signatureName(signature) {
  return { verified: msg('right'), not_verified: msg('could not be checked'), bad: msg('wrong') }[signature] ?? signature;
}
