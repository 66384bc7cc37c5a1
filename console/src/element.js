// What all elements have: a client of supabase-js, the common look, and a way to show what was refused.
import { LitElement, html, nothing } from 'lit';
import { ref } from 'lit/directives/ref.js';
import { msg, updateWhenLocaleChanges } from '@lit/localize';
import { Refusal } from './refusal.js';
import './locale.js';
import { styles } from './styles.js';

export class PatElement extends LitElement {
  static styles = [styles];

  static properties = {
    client: { attribute: false },
    isBusy: { state: true },
    refusal: { state: true },
    dialog: { state: true },
  };

  constructor() {
    super();
    updateWhenLocaleChanges(this);
    this.isBusy = false;
  }

  /**
   * Does what somebody has asked for, one thing at a time. What is refused is shown where they look: in the dialog if
   * one is open. Returns whether it was done.
   */
  async act(work) {
    if (this.isBusy) return false;
    this.isBusy = true;
    this.refusal = undefined;
    try {
      await work(this.client);
      return true;
    } catch (error) {
      this.refusal = error instanceof Refusal ? error : new Refusal({ message: error.message, status: -1 });
      this.tell('pat-refused', { message: error.message, code: error.code, status: error.status });
      return false;
    } finally {
      this.isBusy = false;
    }
  }

  /** Tells the page what has happened. No secret is in it. */
  tell(name, detail = {}, { cancelable = false } = {}) {
    return this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true, cancelable }));
  }

  open(dialog) {
    this.refusal = undefined;
    this.dialog = dialog;
  }

  /** One dialog that follows another is the same for the browser: the focus has to be moved by hand. */
  updated(changed) {
    if (!changed.has('dialog') || !changed.get('dialog') || !this.dialog) return;
    this.renderRoot.querySelector('dialog[open] [autofocus]')?.focus();
  }

  closeDialog = () => this.renderRoot.querySelector('dialog[open]')?.close();

  /** When a dialog has closed, by whatever means. */
  closed = () => {
    this.dialog = undefined;
    this.refusal = undefined;
  };

  /** A refusal where it is read out, with what to do. */
  renderRefusal(refusal = this.refusal) {
    if (!refusal) return nothing;
    // The words of the server are English, whatever the language of the page.
    return html`<div class="notice bad" role="alert" part="refusal">
      <p class="any"><strong><bdi lang=${refusal.isOffline ? nothing : 'en'}>${refusal.message}</bdi></strong></p>
      ${refusal.advice ? html`<p class="any"><bdi>${refusal.advice}</bdi></p>` : nothing}
    </div>`;
  }

  /** What a loader says besides its data: that it loads for the first time, or could not. */
  renderLoading(loader) {
    if (loader.refusal) {
      return html`${this.renderRefusal(loader.refusal)}
        <div class="row"><button type="button" @click=${loader.load} ?disabled=${loader.isLoading}>${msg('Try again')}</button></div>`;
    }
    if (loader.data !== undefined) return nothing;
    return html`<div class="bar" role="progressbar" aria-label=${msg('Loading')}></div>`;
  }

  renderDialog(title, content, { isNarrow = false } = {}) {
    return html`<dialog part="dialog" class=${isNarrow ? 'narrow' : ''} aria-labelledby="title" @close=${this.closed} ${ref(modal)}>
      ${content(html`<h2 id="title">${title}</h2>`)}
    </dialog>`;
  }

  renderActions(label, { isDanger = false, cancel = msg('Cancel') } = {}) {
    return html`<div class="actions">
      <button type="button" @click=${this.closeDialog}>${cancel}</button>
      <button type="submit" class="primary ${isDanger ? 'danger' : ''}" ?disabled=${this.isBusy}>${label}</button>
    </div>`;
  }
}

/** Opens a dialog once it is in the document. */
function modal(dialog) {
  if (!dialog) return;
  queueMicrotask(() => {
    if (dialog.isConnected && !dialog.open) dialog.showModal();
  });
}
