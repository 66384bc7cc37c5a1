// What `pat.status()` says: a row for each check, those that fail first. For a client with a trusted role.
import { html, nothing } from 'lit';
import { msg, str } from '@lit/localize';
import { PatElement } from './element.js';
import { Loader } from './loader.js';
import { ask } from './refusal.js';

export class PatDoctor extends PatElement {
  constructor() {
    super();
    this.checks = new Loader(this, (client) => ask(client.schema('pat').rpc('status')));
  }

  render() {
    const { data } = this.checks;
    const failed = (data ?? []).filter(({ ok }) => !ok);
    const passed = (data ?? []).filter(({ ok }) => ok);
    return html`<section class="stack" part="doctor" aria-labelledby="heading">
      <div class="spread"><div class="tight grow"><h2 id="heading">${msg('Doctor')}</h2>
          <p class="muted">${msg('What is set up, what is not, and how to fix it.')}</p></div>
        <button type="button" @click=${this.checks.load} ?disabled=${this.checks.isLoading}>${msg('Look again')}</button></div>
      ${this.renderLoading(this.checks)}
      ${data ? html`<p class="notice ${failed.length === 0 ? 'good' : 'warning'}" role="status">${failed.length === 0
        ? msg('Everything is as it should be.') : failed.length === 1 ? msg('One check fails.') : msg(str`${failed.length} checks fail.`)}</p>
      ${[failed, passed].map((checks) => (checks.length === 0 ? nothing : html`<ul class="list">${checks.map((check) => html`<li part="check" class="check">
        <div class="spread"><h3><bdi lang="en">${check.check}</bdi></h3>
          <span class="badge ${check.ok ? 'good' : 'bad'}">${check.ok ? msg('Good') : msg('Fails')}</span></div>
        <p class="muted any"><bdi lang="en">${check.detail}</bdi></p></li>`)}</ul>`))}` : nothing}
    </section>`;
  }
}
