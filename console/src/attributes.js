// What a token is limited to beside its scopes: fields by their schemas, or pairs of a name and a value.
import { html, nothing } from 'lit';
import { msg } from '@lit/localize';
import { renderField } from './schema_form.js';

export class Attributes {
  constructor(host) {
    this.host = host;
    this.clear();
  }

  clear() {
    this.pairs = [];
    this.fields = {};
    this.host.requestUpdate();
  }

  /** The object, or null if there is none. What is no JSON is text. */
  get value() {
    const entries = [
      ...Object.entries(this.fields).filter(([, value]) => value !== undefined && value !== '' && !(Array.isArray(value) && value.length === 0)),
      ...this.pairs.filter(({ name }) => name !== '').map(({ name, text }) => [name, parse(text)]),
    ];
    return entries.length === 0 ? null : Object.fromEntries(entries);
  }

  render(schemas) {
    return html`<fieldset class="stack"><legend class="label">${msg('Limited to')} <span class="muted">${msg('(optional)')}</span></legend>
      ${Object.entries(schemas ?? {}).map(([name, schema], at) => renderField({
        id: `attribute-${at}`, label: schema.title ?? name, schema, value: this.fields[name],
        change: (value) => { this.fields[name] = value; this.host.requestUpdate(); },
      }))}
      ${this.pairs.map((pair, at) => html`<div class="row">
        <div class="field grow"><label for="attribute-name-${at}">${msg('Attribute')}</label>
          <input id="attribute-name-${at}" .value=${pair.name} placeholder="project" spellcheck="false" @input=${({ target }) => { pair.name = target.value.trim(); }}></div>
        <div class="field grow"><label for="attribute-value-${at}">${msg('Value')}</label>
          <input id="attribute-value-${at}" .value=${pair.text} placeholder='["one", "two"]' spellcheck="false" @input=${({ target }) => { pair.text = target.value; }}></div>
        <button type="button" class="below" aria-label=${msg('Remove the attribute')} @click=${() => { this.pairs.splice(at, 1); this.host.requestUpdate(); }}>×</button>
      </div>`)}
      <div class="row"><button type="button" @click=${() => { this.pairs.push({ name: '', text: '' }); this.host.requestUpdate(); }}>${
        this.pairs.length === 0 ? msg('Add an attribute') : msg('Add another')}</button></div>
      ${this.pairs.length === 0 ? nothing : html`<p class="small muted">${msg('A value is text, or JSON for lists and numbers.')}</p>`}
    </fieldset>`;
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
