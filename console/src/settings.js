// A user's settings, in a form made from their JSON Schemas.
import { html, nothing } from 'lit';
import { msg, str } from '@lit/localize';
import { PatElement } from './element.js';
import { Loader } from './loader.js';
import { ask } from './refusal.js';
import { isEqual, patchBetween, renderField, shown } from './schema_form.js';

export class PatSettings extends PatElement {
  static properties = {
    edited: { state: true },
    isSaved: { state: true },
  };

  constructor() {
    super();
    this.edited = {};
    this.settings = new Loader(this, async (client) => {
      const [definitions, values] = await Promise.all([
        ask(client.rpc('setting_definitions', {}, { get: true })), ask(client.rpc('get_settings', {}, { get: true })),
      ]);
      return { definitions, values };
    });
  }

  forget() {
    this.edited = {};
    this.isSaved = false;
  }

  render() {
    const { data } = this.settings;
    return html`<section class="stack" part="settings" aria-labelledby="heading">
      <div class="tight"><h2 id="heading">${msg('Settings')}</h2>
        <p class="muted">${msg('They count from your next request on, wherever you are signed in.')}</p></div>
      ${this.renderLoading(this.settings)}
      ${data === undefined ? nothing : this.renderForm(data)}
    </section>`;
  }

  renderForm({ definitions, values }) {
    const keys = Object.keys(definitions).sort();
    if (keys.length === 0) {
      return html`<div class="card empty" part="empty"><h3>${msg('There is nothing to set')}</h3>
        <p class="muted">${msg('This application has declared no settings.')}</p></div>`;
    }
    const isChanged = keys.some((key) => !isEqual(this.valueOf(key), values[key]));
    return html`<form class="card stack" part="form" @submit=${this.save} autocomplete="off">
      ${keys.map((key, at) => this.renderSetting(key, definitions[key], `setting-${at}`))}
      ${this.renderRefusal()}
      <div class="spread"><p class="small muted" role="status">${this.isSaved && !isChanged ? msg('Saved.') : isChanged ? msg('Not saved yet.') : ''}</p>
        <div class="row">
          <button type="button" ?disabled=${!isChanged || this.isBusy} @click=${() => { this.edited = {}; this.refusal = undefined; }}>${msg('Discard')}</button>
          <button type="submit" class="primary" ?disabled=${!isChanged || this.isBusy}>${msg('Save')}</button>
        </div></div>
    </form>`;
  }

  valueOf(key) {
    return key in this.edited ? this.edited[key] : this.settings.data.values[key];
  }

  renderSetting(key, { schema, default: standard }, id) {
    const value = this.valueOf(key);
    return html`<div class="tight" part="setting">
      ${renderField({
        id, label: key, schema: schema ?? guess(standard), value,
        change: (changed) => { this.edited = { ...this.edited, [key]: changed }; this.isSaved = false; },
      })}
      ${isEqual(value, standard) ? nothing : html`<div><button type="button" class="plain small" aria-label=${msg(str`Reset ${key}`)}
        @click=${() => { this.edited = { ...this.edited, [key]: standard }; this.isSaved = false; }}>${
        typeof standard === 'object' ? msg('Back to the default') : msg(str`Back to the default (${shown(standard)})`)}</button></div>`}
    </div>`;
  }

  save = (event) => {
    event.preventDefault();
    const { definitions, values } = this.settings.data;
    const patch = {};
    for (const [key, value] of Object.entries(this.edited)) {
      // Null removes what the user has set: then the default counts, also when it changes one day.
      const change = value === undefined || isEqual(value, definitions[key].default) ? null : patchBetween(values[key], value);
      if (change !== undefined && !isEqual(value, values[key])) patch[key] = change;
    }
    this.act(async (client) => {
      this.settings.data = { definitions, values: await ask(client.rpc('set_settings', { patch })) };
      this.edited = {};
      this.isSaved = true;
      this.tell('pat-settings-saved', { keys: Object.keys(patch) });
    });
  };
}

/** A field for a setting without a schema: by what its default is. */
function guess(value) {
  return ['boolean', 'number', 'string'].includes(typeof value) ? { type: typeof value } : {};
}
