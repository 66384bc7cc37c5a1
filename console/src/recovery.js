// A forgotten password at Supabase Auth, from the code to the end of all that a thief may hold. The extension's own
// `reset_password` does all of it in one transaction; here it is a row of requests, any of which may fail.
import { ask, askAuth } from './refusal.js';

export class Recovery {
  #email;
  /** Has the session that the code begins, in memory alone: the page, its storage and other tabs never have it. */
  #client;
  /** What has been done, so that after a refusal only the rest is tried again. A code is good for once. */
  #done = new Set();

  constructor(client, email) {
    this.#email = email;
    // A page may give its requests an Authorization of their own, which would be another user's.
    const headers = Object.fromEntries(Object.entries(client.headers ?? {}).filter(([name]) => name.toLowerCase() !== 'authorization'));
    this.#client = new client.constructor(client.supabaseUrl, client.supabaseKey, {
      auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false, storageKey: 'pat-recovery' },
      db: { schema: client.rest.schemaName },
      global: { headers, fetch: client.fetch },
    });
  }

  /** Whether the code was right: then only a password is wanted. */
  get isVerified() {
    return this.#done.has('verify');
  }

  /** Whether the password is set: then nothing more is wanted from the user. */
  get isSet() {
    return this.#done.has('set');
  }

  /** Whether all tokens have ended. */
  get hasRevoked() {
    return this.#done.has('revoke');
  }

  /**
   * Does what is left to do. Tokens are ended after the old password and all logins: whoever holds one of these could
   * make others. Throws a `Refusal`.
   */
  async go(code, password) {
    const { auth } = this.#client;
    await this.#once('verify', () => askAuth(auth.verifyOtp({ email: this.#email, token: code, type: 'recovery' })));
    await this.#once('set', () => askAuth(auth.updateUser({ password })));
    // `auth.signOut` would take a refusal for success.
    await this.#once('others', async () => {
      const { session } = await askAuth(auth.getSession());
      await askAuth(auth.admin.signOut(session?.access_token, 'others'));
    });
    await this.#once('revoke', () => ask(this.#client.rpc('revoke_all_pats')));
    await this.#once('end', () => askAuth(auth.signOut({ scope: 'global' })));
  }

  /** Ends the session that a code has begun, when nobody goes on. */
  async leave() {
    if (this.isVerified && !this.#done.has('end')) await this.#client.auth.signOut({ scope: 'local' });
  }

  async #once(step, work) {
    if (this.#done.has(step)) return;
    await work();
    this.#done.add(step);
  }
}
