import { html } from 'lit';

/** The beginning of an id, which is enough to tell it from others; the whole is there to be copied. */
export function short(id) {
  return html`<code title=${id}>${id.slice(0, 8)}</code>`;
}
