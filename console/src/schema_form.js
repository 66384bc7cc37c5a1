// Fields of a form from JSON Schemas. What has no field of its own is written as JSON. The server has the last word.
import { html, nothing } from 'lit';
import { live } from 'lit/directives/live.js';
import { msg } from '@lit/localize';

/** Deeper than this, a value is written as JSON. */
const DEEPEST = 4;
const INPUTS = { email: 'email', uri: 'url', date: 'date', time: 'time', password: 'text' };

/** A field for a value under a schema. `change` gets the new value, undefined if there is none. */
export function renderField({ id, label, schema: given, value, change, root = given, depth = 0 }) {
  const schema = resolve(given, root);
  const title = schema.title ?? label;
  const help = schema.description ? html`<p class="small muted any" id="${id}-help"><bdi>${schema.description}</bdi></p>` : nothing;
  const described = schema.description ? `${id}-help` : nothing;
  const type = typeOf(schema);
  const field = (input) => html`<div class="field" part="field"><label for=${id} class="any"><bdi>${title}</bdi></label>${input}${help}</div>`;

  if (Array.isArray(schema.enum) && schema.enum.length > 0) {
    return field(html`<select id=${id} aria-describedby=${described} @change=${({ target }) => change(schema.enum[target.selectedIndex - (isOf(schema.enum, value) ? 0 : 1)])}>
      ${isOf(schema.enum, value) ? nothing : html`<option selected disabled></option>`}
      ${schema.enum.map((one) => html`<option ?selected=${isEqual(one, value)}>${text(one)}</option>`)}</select>`);
  }
  if (type === 'boolean') {
    return html`<div class="field" part="field"><label class="check"><input id=${id} type="checkbox" aria-describedby=${described} .checked=${live(value === true)}
      @change=${({ target }) => change(target.checked)}><span class="any"><bdi>${title}</bdi></span></label>${help}</div>`;
  }
  if (type === 'integer' || type === 'number') {
    const step = schema.multipleOf ?? (type === 'integer' ? 1 : 'any');
    return field(html`<input id=${id} type="number" aria-describedby=${described} .value=${live(value === undefined || value === null ? '' : String(value))}
      min=${schema.minimum ?? nothing} max=${schema.maximum ?? nothing} step=${step}
      @input=${({ target }) => change(target.value === '' ? undefined : target.valueAsNumber)}>`);
  }
  if (type === 'string') {
    const attributes = { min: schema.minLength ?? nothing, max: schema.maxLength ?? nothing };
    const input = ({ target }) => change(target.value);
    return field((schema.maxLength ?? 0) > 200 || schema.format === 'textarea' || String(value ?? '').length > 80 || String(value ?? '').includes('\n')
      ? html`<textarea id=${id} dir="auto" aria-describedby=${described} maxlength=${attributes.max} minlength=${attributes.min} .value=${live(value ?? '')} @input=${input}></textarea>`
      : html`<input id=${id} dir="auto" type=${INPUTS[schema.format] ?? 'text'} aria-describedby=${described} maxlength=${attributes.max} minlength=${attributes.min}
        .value=${live(String(value ?? ''))} @input=${input}>`);
  }
  if (type === 'array' && Array.isArray(resolve(schema.items ?? {}, root).enum)) {
    const chosen = Array.isArray(value) ? value : [];
    const choices = resolve(schema.items, root).enum;
    return html`<fieldset class="tight" part="field" aria-describedby=${described}><legend class="label any"><bdi>${title}</bdi></legend>
      ${choices.map((one) => html`<label class="check"><input type="checkbox" .checked=${live(isOf(chosen, one))}
        @change=${({ target }) => change(choices.filter((other) => (isEqual(other, one) ? target.checked : isOf(chosen, other))))}>
        <span class="any"><bdi>${text(one)}</bdi></span></label>`)}${help}</fieldset>`;
  }
  if (type === 'array' && typeOf(resolve(schema.items ?? {}, root)) === 'string' && (value ?? []).every?.((one) => typeof one === 'string' && !one.includes('\n'))) {
    return html`<div class="field" part="field"><label for=${id} class="any"><bdi>${title}</bdi> <span class="muted">${msg('(one a line)')}</span></label>
      <textarea id=${id} dir="auto" aria-describedby=${described} .value=${live((value ?? []).join('\n'))}
        @change=${({ target }) => change(target.value.split('\n').map((line) => line.trim()).filter(Boolean))}></textarea>${help}</div>`;
  }
  if (type === 'object' && schema.properties && depth < DEEPEST) {
    const object = isObject(value) ? value : {};
    return html`<fieldset class="stack group" part="field" aria-describedby=${described}><legend class="label any"><bdi>${title}</bdi></legend>${help}
      ${Object.entries(schema.properties).map(([name, part], at) => renderField({
        id: `${id}-${at}`, label: name, schema: part, value: object[name], root, depth: depth + 1,
        change: (changed) => {
          const { [name]: _, ...others } = object;
          change(changed === undefined ? others : { ...others, [name]: changed });
        },
      }))}</fieldset>`;
  }
  return html`<div class="field" part="field"><label for=${id} class="any"><bdi>${title}</bdi> <span class="muted">JSON</span></label>
    <textarea id=${id} class="mono" spellcheck="false" aria-describedby=${described} .value=${live(value === undefined ? '' : JSON.stringify(value, null, 2))}
      @change=${({ target }) => readJson(target, change)}></textarea>${help}</div>`;
}

/** The patch (RFC 7396) that makes of one value the other; undefined if they are the same. */
export function patchBetween(before, after) {
  if (isEqual(before, after)) return undefined;
  if (!isObject(before) || !isObject(after)) return after;
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return Object.fromEntries([...names].map((name) => [name, name in after ? patchBetween(before[name], after[name]) : null])
    .filter(([, patch]) => patch !== undefined));
}

export function isEqual(a, b) {
  if (a === b) return true;
  if (Array.isArray(a) || Array.isArray(b)) {
    return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((one, at) => isEqual(one, b[at]));
  }
  if (!isObject(a) || !isObject(b)) return false;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => name in b && isEqual(a[name], b[name]));
}

function readJson(field, change) {
  let value;
  try {
    value = field.value.trim() === '' ? undefined : JSON.parse(field.value);
  } catch {
    // What cannot be read keeps the form from being sent.
    field.setCustomValidity(msg('This is not JSON.'));
    field.reportValidity();
    return;
  }
  field.setCustomValidity('');
  change(value);
}

/** What a reference to another part of the same schema stands for. Nothing else is looked up. */
function resolve(schema, root, steps = 8) {
  if (!isObject(schema)) return {};
  if (typeof schema.$ref !== 'string' || steps === 0) return schema;
  if (!schema.$ref.startsWith('#')) return {};
  const path = schema.$ref.slice(1).split('/').slice(1).map((name) => decodeURIComponent(name).replaceAll('~1', '/').replaceAll('~0', '~'));
  const found = path.reduce((part, name) => (part !== null && typeof part === 'object' && Object.hasOwn(part, name) ? part[name] : undefined), root);
  const { $ref, ...own } = schema;
  return { ...resolve(found, root, steps - 1), ...own };
}

function typeOf({ type }) {
  return Array.isArray(type) && type.length === 1 ? type[0] : type;
}

function isObject(value) {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

function isOf(values, value) {
  return values.some((one) => isEqual(one, value));
}

function text(value) {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** A value for people to read. */
export function shown(value) {
  if (value === true) return msg('yes');
  if (value === false) return msg('no');
  return text(value);
}
