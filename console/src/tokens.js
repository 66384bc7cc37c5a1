// A user's personal access tokens: make, see, rotate, narrow, disable, revoke.
import { html, nothing } from 'lit';
import { repeat } from 'lit/directives/repeat.js';
import { msg, str } from '@lit/localize';
import { PatElement } from './element.js';
import { Loader } from './loader.js';
import { ask } from './refusal.js';
import { readCatalogue } from './catalogue.js';
import { curl } from './curl.js';
import { limit, list, moment, relative, span } from './format.js';
import { eventName, refusalName } from './event_names.js';
import { Attributes } from './attributes.js';
import { readUsage, renderUsage } from './usage.js';

const COLUMNS = 'id,name,description,kind,scopes,allowed_ips,rate_limit,rate_window,quota,quota_window,attributes,hint,'
  + 'created_at,expires_at,last_used_at,last_used_ip,revoked_at,disabled_at,is_active';
/** The tokens that are shown, and events of one: the latest. */
const MOST_TOKENS = 500;
const MOST_EVENTS = 50;
const DAY = 86_400_000;

export class PatTokens extends PatElement {
  static properties = {
    /** Every so many seconds the list is loaded anew, so that last uses move; 0 for never. */
    poll: { type: Number },
    /** JSON Schemas of attributes by their names, for fields with more than text. */
    attributeSchemas: { attribute: false },
    /** The address of the REST server in the line for curl, if it is another than the client's. */
    restUrl: { attribute: false },
    showsEnded: { state: true },
    opened: { state: true },
    kind: { state: true },
    expiry: { state: true },
    scopes: { state: true },
    copied: { state: true },
  };

  /** The token that is shown once, while its dialog is open. It is nowhere else. */
  #secret;

  constructor() {
    super();
    this.poll = 5;
    this.attributeSchemas = {};
    this.showsEnded = false;
    this.tokens = new Loader(this, (client) => ask(client.from('api_keys').select(COLUMNS)
      .order('created_at', { ascending: false }).limit(MOST_TOKENS)), { seconds: () => this.poll });
    this.catalogue = new Loader(this, readCatalogue);
    this.events = new Loader(this, async (client) => (this.opened
      ? ask(client.from('api_key_events').select('happened_at,event,role,address,count,detail').eq('key_id', this.opened)
        .order('happened_at', { ascending: false }).limit(MOST_EVENTS)) : []));
    this.usage = new Loader(this, async (client) => (this.opened ? readUsage(client, this.opened) : []), {
      seconds: () => (this.opened ? this.poll : 0),
    });
    this.limitedTo = new Attributes(this);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.forget();
  }

  /** Somebody else is signed in, or nobody. */
  forget() {
    this.#secret = undefined;
    this.opened = undefined;
    this.dialog = undefined;
  }

  closed = () => {
    this.#secret = undefined;
    this.copied = undefined;
    this.dialog = undefined;
    this.refusal = undefined;
  };

  /** What was refused may be so because somebody else has changed the token: then the list is old. */
  async act(work) {
    const isDone = await super.act(work);
    if (!isDone) this.tokens.load();
    return isDone;
  }

  get shown() {
    return (this.tokens.data ?? []).filter((token) => this.showsEnded || !hasEnded(token));
  }

  render() {
    const { data } = this.tokens;
    const ended = (data ?? []).filter(hasEnded).length;
    return html`<section class="stack" part="tokens" aria-labelledby="heading">
      <div class="spread">
        <div class="tight grow">
          <h2 id="heading">${msg('Personal access tokens')}</h2>
          <p class="muted">${msg('With a token, a script or a service does what you may do. It is shown once.')}</p>
        </div>
        <button type="button" class="primary" part="new" @click=${this.openNew}>${msg('New token')}</button>
      </div>
      ${this.dialog ? nothing : this.renderRefusal()}
      ${this.renderLoading(this.tokens)}
      ${data === undefined ? nothing : this.renderList()}
      ${data === undefined ? nothing : html`<div class="spread">
        ${ended === 0 ? html`<span></span>` : html`<label class="check"><input type="checkbox" .checked=${this.showsEnded}
          @change=${({ target }) => { this.showsEnded = target.checked; }}><span>${msg(str`Show those that have ended (${ended})`)}</span></label>`}
        ${data.some(({ is_active: isActive }) => isActive)
          ? html`<button type="button" class="plain" @click=${() => this.open({ name: 'revokeAll' })}>${msg('Revoke all…')}</button>` : nothing}
      </div>`}
    </section>${this.renderOpenDialog()}`;
  }

  renderList() {
    if (this.shown.length === 0) {
      return html`<div class="card empty" part="empty"><h3>${msg('There is no token yet')}</h3>
        <p class="muted">${msg('Make one for each script or service, so that you can end it alone.')}</p></div>`;
    }
    return html`<ul class="list" part="list">${repeat(this.shown, ({ id }) => id, (token) => html`<li part="token">${this.renderToken(token)}</li>`)}</ul>`;
  }

  renderToken(token) {
    const isOpen = this.opened === token.id;
    return html`<div class="tight">
      <div class="spread">
        <h3 class="clamp grow"><bdi part="name">${token.name}</bdi></h3>
        ${renderState(token)}
      </div>
      <p class="muted small facts">
        <span class="mono">…${token.hint ?? '??????'}</span>
        <span>${token.last_used_at
          ? html`<time datetime=${token.last_used_at} title=${moment(token.last_used_at)}>${msg(str`last used ${relative(token.last_used_at)}`)}</time>`
          : msg('never used')}</span>
        <span>${renderEnd(token)}</span>
      </p>
      <div><button type="button" class="plain small" aria-expanded=${isOpen ? 'true' : 'false'}
        aria-label=${isOpen ? nothing : msg(str`Details of ${start(token.name)}`)}
        @click=${() => this.toggle(token)}>${isOpen ? msg('Less') : msg('Details')}</button></div>
      ${isOpen ? this.renderDetails(token) : nothing}
    </div>`;
  }

  toggle({ id }) {
    this.opened = this.opened === id ? undefined : id;
    for (const loader of [this.usage, this.events]) {
      Object.assign(loader, { data: undefined, refusal: undefined });
      loader.load();
    }
  }

  renderDetails(token) {
    const row = (label, value) => (value === null || value === undefined || value === '' ? nothing : html`<dt>${label}</dt><dd>${value}</dd>`);
    const actions = hasEnded(token)
      ? html`<button type="button" class="danger" @click=${() => this.open({ name: 'remove', token })}>${msg('Remove from the list…')}</button>`
      : html`<button type="button" @click=${() => this.open({ name: 'rotate', token })}>${msg('Rotate…')}</button>
        <button type="button" @click=${() => this.openEdit(token)}>${msg('Edit…')}</button>
        <button type="button" ?disabled=${this.isBusy} @click=${() => this.setDisabled(token, !token.disabled_at)}>${
          token.disabled_at ? msg('Enable') : msg('Disable')}</button>
        <button type="button" class="danger" @click=${() => this.open({ name: 'revoke', token })}>${msg('Revoke…')}</button>`;
    return html`<div class="stack" part="details">
      <dl>
        ${token.name.length > 60 ? row(msg('Name'), html`<bdi class="any">${token.name}</bdi>`) : nothing}
        ${row(msg('Description'), token.description && html`<bdi class="any">${token.description}</bdi>`)}
        ${row(msg('Kind'), kindName(token.kind))}
        ${row(msg('May do'), token.scopes ? html`<span class="row">${token.scopes.map((scope) => html`<code><bdi>${scope}</bdi></code>`)}</span>`
          : msg('Everything but making and ending tokens'))}
        ${row(msg('Limited to'), token.attributes && html`<bdi class="any mono">${Object.entries(token.attributes)
          .map(([name, value]) => `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`).join('\n')}</bdi>`)}
        ${row(msg('From'), token.allowed_ips && html`<span class="mono">${list(token.allowed_ips)}</span>`)}
        ${row(msg('Limit'), token.rate_limit && limit(token.rate_limit, token.rate_window))}
        ${row(msg('Quota'), token.quota && limit(token.quota, token.quota_window))}
        ${row(msg('Made'), moment(token.created_at))}
        ${row(msg('Last used'), token.last_used_at && (token.last_used_ip
          ? msg(str`${moment(token.last_used_at)}, from ${token.last_used_ip}`) : moment(token.last_used_at)))}
        ${row(msg('Expires'), moment(token.expires_at))}
      </dl>
      <div class="row">${actions}</div>
      <div class="tight"><h4>${msg('Requests by day')}</h4>
        ${this.usage.data && this.tokens.refusal ? nothing : this.renderLoading(this.usage)}
        ${this.usage.data ? renderUsage(this.usage.data, { wasUsed: token.last_used_at !== null }) : nothing}
      </div>
      <div class="tight"><h4>${msg('What happened to it')}</h4>
        ${this.renderLoading(this.events)}
        ${this.events.data?.length === 0 ? html`<p class="muted small">${msg('Nothing yet.')}</p>` : nothing}
        <ol class="tight small">${(this.events.data ?? []).map((event) => html`<li class="any"><time class="muted" datetime=${event.happened_at}>${
          moment(event.happened_at)}</time> ${eventName(event.event)}${event.count > 1 ? ` × ${event.count}` : ''}${
          event.detail ? html` <bdi class="muted">${event.event === 'refused' ? refusalName(event.detail) : event.detail}</bdi>` : nothing}</li>`)}</ol>
      </div>
    </div>`;
  }

  renderOpenDialog() {
    switch (this.dialog?.name) {
      case 'new': return this.renderNew();
      case 'secret': return this.renderSecret();
      case 'edit': return this.renderEdit();
      case 'rotate': return this.renderRotate();
      case 'revoke': return this.renderQuestion(msg('Revoke this token?'), msg('It ends at once, and for ever. Whatever uses it is refused from its next request on.'),
        msg('Revoke'), html`<label class="check"><input type="checkbox" name="cascade"><span>${
          msg('Also end what was made with it')}</span></label>`, this.revoke);
      case 'remove': return this.renderQuestion(msg('Remove this token from the list?'), msg('It has ended already, and stays so.'), msg('Remove'), nothing, this.removeToken);
      case 'revokeAll': return this.renderQuestion(msg('Revoke all tokens?'), msg('All of them end at once, and for ever. Your logins go on.'), msg('Revoke all'), nothing, this.revokeAll);
      default: return nothing;
    }
  }

  renderQuestion(title, text, label, more, submit) {
    const { token } = this.dialog;
    return this.renderDialog(title, (heading) => html`<form method="dialog" @submit=${submit}>
      ${heading}
      ${token ? html`<p class="clamp"><strong><bdi>${token.name}</bdi></strong></p>` : nothing}
      <p>${text}</p>${more}${this.renderRefusal()}${this.renderActions(label, { isDanger: true })}
    </form>`, { isNarrow: true });
  }

  openNew = () => {
    this.kind = 'jwt';
    this.expiry = '30';
    this.scopes = null;
    this.limitedTo.clear();
    this.open({ name: 'new' });
  };

  renderNew() {
    return this.renderDialog(msg('New token'), (heading) => html`<form @submit=${this.mint} autocomplete="off">
      ${heading}
      <div class="field"><label for="name">${msg('Name')}</label>
        <input id="name" name="name" required autofocus aria-describedby="name-help">
        <p class="small muted" id="name-help">${msg('What will use it, such as “backup script”.')}</p></div>
      <div class="field"><label for="description">${msg('Description')} <span class="muted">${msg('(optional)')}</span></label>
        <input id="description" name="description" maxlength="1000"></div>
      ${this.renderExpiry()}
      <fieldset class="tight"><legend class="label">${msg('What it may do')}</legend>${this.renderScopes()}</fieldset>
      <details><summary>${msg('More limits')}</summary><div class="stack more">
        <fieldset class="tight"><legend class="label">${msg('Kind')}</legend>
          ${['jwt', 'opaque'].map((kind) => html`<label class="check"><input type="radio" name="kind" value=${kind} .checked=${this.kind === kind}
            @change=${() => { this.kind = kind; }}><span>${kindName(kind)}<br><span class="small muted">${kind === 'jwt'
              ? msg('Works wherever a login does.') : msg('48 characters, in the header x-api-key. For the REST API alone.')}</span></span></label>`)}
        </fieldset>
        ${this.renderAddresses()}${this.renderLimits()}${this.limitedTo.render(this.attributeSchemas)}
      </div></details>
      ${this.renderRefusal()}${this.renderActions(msg('Make the token'))}
    </form>`);
  }

  renderScopes(within = null) {
    return html`${this.catalogue.refusal && !within ? html`<p class="small muted">${
      msg('The REST server does not tell what there is. Name the scopes yourself.')}</p>` : nothing}
      <pat-scopes .value=${this.scopes} .catalogue=${this.catalogue.data} .within=${within} @change=${({ target }) => { this.scopes = target.value; }}></pat-scopes>`;
  }

  renderExpiry() {
    const tomorrow = new Date(Date.now() + DAY).toISOString().slice(0, 10);
    const choices = [['7', msg('In 7 days')], ['30', msg('In 30 days')], ['90', msg('In 90 days')], ['365', msg('In a year')], ['date', msg('On a day…')], ['', msg('As late as the server says')]];
    return html`<div class="columns">
      <div class="field"><label for="expiry">${msg('Ends')}</label>
        <select id="expiry" @change=${({ target }) => { this.expiry = target.value; }}>${choices.map(([value, label]) => html`<option value=${value} ?selected=${this.expiry === value}>${label}</option>`)}</select></div>
      ${this.expiry === 'date' ? html`<div class="field"><label for="day">${msg('Day')}</label><input id="day" name="day" type="date" required min=${tomorrow}></div>` : nothing}
    </div>`;
  }

  /** What a token has already, it keeps: those fields are not left empty. */
  renderAddresses(addresses) {
    return html`<div class="field"><label for="addresses">${msg('Only from these addresses')} ${addresses ? nothing : html`<span class="muted">${msg('(optional)')}</span>`}</label>
      <input id="addresses" name="addresses" class="mono" ?required=${Boolean(addresses)} placeholder="203.0.113.7, 2001:db8::/32" spellcheck="false" .value=${(addresses ?? []).join(', ')}></div>`;
  }

  renderLimits({ rate_limit: rate, rate_window: rateWindow, quota, quota_window: quotaWindow } = {}) {
    const [hour, day] = [['1 hour', msg('hour')], ['1 day', msg('day')]];
    return html`${this.renderLimit({
      limit: 'rate_limit', window: 'rate_window', label: msg('Requests at most'), per: msg('per'), count: rate, present: rateWindow ?? '1 minute',
      choices: [['1 second', msg('second')], ['1 minute', msg('minute')], hour, day],
    })}${this.renderLimit({
      limit: 'quota', window: 'quota_window', label: msg('Quota of requests'), per: msg('in each'), count: quota, present: quotaWindow ?? '1 day',
      choices: [hour, day, ['7 days', msg('week')], ['30 days', span('30 days')]],
    })}`;
  }

  renderLimit({ limit: name, window, label, per, count, present, choices }) {
    const isChoice = choices.some(([value]) => seconds(value) === seconds(present));
    return html`<div class="columns">
      <div class="field"><label for=${name}>${label} ${count ? nothing : html`<span class="muted">${msg('(optional)')}</span>`}</label>
        <input id=${name} name=${name} type="number" ?required=${Boolean(count)} min="1" max="2147483647" step="1" inputmode="numeric" .value=${String(count ?? '')}></div>
      <div class="field below"><label for=${window}>${per}</label><select id=${window} name=${window}>${
        [...choices, ...(isChoice ? [] : [[present, span(present)]])].map(([value, text]) => html`
        <option value=${value} ?selected=${seconds(value) === seconds(present)}>${text}</option>`)}</select></div>
    </div>`;
  }

  mint = (event) => {
    event.preventDefault();
    const fields = new FormData(event.target);
    this.act(async (client) => {
      const minted = await ask(client.rpc('mint_pat', {
        name: fields.get('name'),
        ...given({
          description: fields.get('description') || null,
          expires_in: lifetime(this.expiry, fields.get('day')),
          allowed_ips: addresses(fields.get('addresses')),
          attributes: this.limitedTo.value,
          scopes: this.scopes,
        }),
        ...limitChanges(fields),
        kind: this.kind,
      }));
      this.show(minted, this.kind);
      this.tell('pat-token-minted', { id: minted.id, name: minted.name, expires_at: minted.expires_at });
      this.tokens.load();
    });
  };

  show({ token, name }, kind) {
    this.#secret = token;
    this.open({ name: 'secret', title: name, kind });
  }

  renderSecret() {
    const table = (this.scopes?.find((scope) => scope.endsWith(':read') && !scope.includes('/'))?.slice(0, -5))
      ?? this.catalogue.data?.tables[0]?.name;
    const line = curl(this.client, this.#secret, { kind: this.dialog.kind, table, restUrl: this.restUrl });
    return this.renderDialog(msg('Copy your token now'), (heading) => html`<div>
      ${heading}
      <p class="notice warning">${msg('It is shown this once. Nobody can show it again, neither you nor us.')}</p>
      <div class="tight"><div class="spread"><h3 class="clamp grow"><bdi>${this.dialog.title}</bdi></h3>
        <button type="button" class="primary" autofocus @click=${() => this.copy('token', this.#secret)}>${msg('Copy the token')}</button></div>
        <code class="secret" part="secret" tabindex="0" role="textbox" aria-readonly="true" aria-label=${msg('Token')}>${this.#secret}</code></div>
      ${line ? html`<div class="tight"><div class="spread"><h3 class="grow">${msg('Try it in a terminal')}</h3>
        <button type="button" @click=${() => this.copy('line', line)}>${msg('Copy the line')}</button></div>
        <code class="secret" part="curl" tabindex="0" role="textbox" aria-readonly="true" aria-label=${msg('A line for curl')}>${line}</code></div>` : nothing}
      <p class="small" role="status">${{ token: msg('The token is in the clipboard.'), line: msg('The line is in the clipboard.'), failed: msg('The browser does not let the page copy: select the text and copy it.') }[this.copied] ?? ''}</p>
      <div class="actions"><button type="button" @click=${this.closeDialog}>${msg('I have copied it')}</button></div>
    </div>`);
  }

  async copy(what, text) {
    try {
      await navigator.clipboard.writeText(text);
      this.copied = what;
    } catch {
      this.copied = 'failed';
    }
  }

  openEdit(token) {
    this.scopes = token.scopes;
    this.expiry = 'same';
    this.limitedTo.clear();
    this.open({ name: 'edit', token });
  }

  renderEdit() {
    const { token } = this.dialog;
    const choices = [['same', msg('As it is')], ...[['1', msg('Tomorrow')], ['7', msg('In 7 days')], ['30', msg('In 30 days')], ['90', msg('In 90 days')]]
      .filter(([days]) => Date.now() + days * DAY < new Date(token.expires_at))];
    return this.renderDialog(msg('Edit the token'), (heading) => html`<form @submit=${this.edit} autocomplete="off">
      ${heading}
      <div class="field"><label for="name">${msg('Name')}</label><input id="name" name="name" required .value=${token.name}></div>
      <div class="field"><label for="description">${msg('Description')} <span class="muted">${msg('(optional)')}</span></label>
        <input id="description" name="description" maxlength="1000" .value=${token.description ?? ''}></div>
      <p class="notice">${msg('What it may do only becomes less. For more, make another token.')}</p>
      <div class="field"><label for="expiry">${msg('Ends')}</label><select id="expiry" @change=${({ target }) => { this.expiry = target.value; }}>${
        choices.map(([value, label]) => html`<option value=${value}>${label}</option>`)}</select></div>
      <fieldset class="tight"><legend class="label">${msg('What it may do')}</legend>${this.renderScopes(token.scopes)}</fieldset>
      ${this.renderAddresses(token.allowed_ips)}${this.renderLimits(token)}
      ${this.renderRefusal()}${this.renderActions(msg('Save'))}
    </form>`);
  }

  edit = (event) => {
    event.preventDefault();
    const { token } = this.dialog;
    const fields = new FormData(event.target);
    const changes = {
      name: fields.get('name') === token.name ? null : fields.get('name'),
      description: fields.get('description') === (token.description ?? '') ? null : fields.get('description'),
      expires_in: this.expiry === 'same' ? null : lifetime(this.expiry),
      scopes: isSame(this.scopes, token.scopes) ? null : this.scopes,
      allowed_ips: isSame(addresses(fields.get('addresses')), token.allowed_ips) ? null : addresses(fields.get('addresses')),
      ...limitChanges(fields, token),
    };
    this.act(async (client) => {
      await ask(client.rpc('edit_pat', { id: token.id, ...given(changes) }));
      this.tell('pat-token-edited', { id: token.id });
      this.finish();
    });
  };

  renderRotate() {
    const choices = [['00:00:00', msg('At once')], ['1 hour', msg('In an hour')], ['1 day', msg('In a day')], ['7 days', msg('In 7 days')]];
    return this.renderDialog(msg('Rotate the token'), (heading) => html`<form @submit=${this.rotate}>
      ${heading}
      <p class="clamp"><strong><bdi>${this.dialog.token.name}</bdi></strong></p>
      <p>${msg('A new token of the same kind, scopes and limits takes its place.')}</p>
      <div class="field"><label for="grace">${msg('The old one ends')}</label>
        <select id="grace" name="grace">${choices.map(([value, label]) => html`<option value=${value}>${label}</option>`)}</select></div>
      ${this.renderRefusal()}${this.renderActions(msg('Rotate'))}
    </form>`, { isNarrow: true });
  }

  rotate = (event) => {
    event.preventDefault();
    const { token } = this.dialog;
    const grace = new FormData(event.target).get('grace');
    this.act(async (client) => {
      const minted = await ask(client.rpc('rotate_pat', { id: token.id, grace }));
      this.scopes = token.scopes;
      this.show(minted, token.kind);
      this.tell('pat-token-rotated', { id: minted.id, replaces: token.id, name: minted.name });
      this.tokens.load();
    });
  };

  setDisabled({ id }, disabled) {
    this.act(async (client) => {
      await ask(client.rpc('edit_pat', { id, disabled }));
      this.tell(disabled ? 'pat-token-disabled' : 'pat-token-enabled', { id });
      this.finish();
    });
  }

  revoke = (event) => {
    event.preventDefault();
    const { id } = this.dialog.token;
    const cascade = new FormData(event.target).has('cascade');
    this.act(async (client) => {
      await ask(client.rpc('revoke_pat', cascade ? { id, cascade } : { id }));
      this.tell('pat-token-revoked', { id });
      this.finish();
    });
  };

  removeToken = (event) => {
    event.preventDefault();
    const { id } = this.dialog.token;
    this.act(async (client) => {
      await ask(client.from('api_keys').delete().eq('id', id));
      this.tell('pat-token-removed', { id });
      this.finish();
    });
  };

  revokeAll = (event) => {
    event.preventDefault();
    this.act(async (client) => {
      const count = await ask(client.rpc('revoke_all_pats'));
      this.tell('pat-tokens-revoked', { count });
      this.finish();
    });
  };

  /** Shows how things stand after something was done. */
  finish() {
    this.closeDialog();
    this.tokens.load();
    if (this.opened) this.events.load();
  }
}

function hasEnded({ revoked_at: revokedAt, expires_at: expiresAt }) {
  return revokedAt !== null || new Date(expiresAt) <= Date.now();
}

function renderState(token) {
  if (token.revoked_at) return html`<span class="badge bad" part="state">${msg('Revoked')}</span>`;
  if (hasEnded(token)) return html`<span class="badge" part="state">${msg('Expired')}</span>`;
  if (token.disabled_at) return html`<span class="badge warning" part="state">${msg('Disabled')}</span>`;
  return html`<span class="badge good" part="state">${msg('Active')}</span>`;
}

function renderEnd(token) {
  if (token.revoked_at) return msg(str`revoked ${relative(token.revoked_at)}`);
  const end = relative(token.expires_at);
  return hasEnded(token) ? msg(str`expired ${end}`) : msg(str`expires ${end}`);
}

function kindName(kind) {
  return kind === 'opaque' ? msg('Short token') : msg('JWT');
}

/** Enough of a name for a label. */
function start(name) {
  return [...name].slice(0, 60).join('');
}

/** Without what is empty. */
function given(values) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null && value !== undefined));
}

function lifetime(expiry, day) {
  if (expiry === 'date') return `${Math.max(1, Math.floor((new Date(`${day}T23:59:59`) - Date.now()) / 1000))} seconds`;
  return expiry === '' ? null : `${expiry} days`;
}

function addresses(text) {
  const found = (text ?? '').split(/[\s,]+/).filter(Boolean);
  return found.length === 0 ? null : found;
}

function isSame(a, b) {
  return JSON.stringify(a && [...a].sort()) === JSON.stringify(b && [...b].sort());
}

/** What the fields of the limits say that is not so already. */
function limitChanges(fields, token = {}) {
  return Object.fromEntries([['rate_limit', 'rate_window'], ['quota', 'quota_window']].flatMap(([limitName, windowName]) => {
    const [count, window] = [Number(fields.get(limitName)) || null, fields.get(windowName)];
    if (count === null) return [];
    return [
      ...(count === token[limitName] ? [] : [[limitName, count]]),
      ...(token[limitName] && seconds(window) === seconds(token[windowName]) ? [] : [[windowName, window]]),
    ];
  }));
}

/** The seconds of an interval, as it is asked for and as Postgres writes it. */
function seconds(interval) {
  const units = { second: 1, minute: 60, hour: 3600, day: 86_400 };
  const [, count, unit] = /^(\d+) (second|minute|hour|day)s?/.exec(interval ?? '') ?? [];
  const [, hours = 0, minutes = 0, rest = 0] = /(\d+):(\d+):(\d+)/.exec(interval ?? '') ?? [];
  return (count ? count * units[unit] : 0) + Number(hours) * 3600 + Number(minutes) * 60 + Number(rest);
}
