// What the server, or the way to it, has refused: in its own words, with what to do.
import { msg } from '@lit/localize';

export class Refusal extends Error {
  /** `status` is 0 where no answer came. */
  constructor({ message, hint, code, status }) {
    super(message);
    this.name = 'Refusal';
    this.hint = hint || undefined;
    this.code = code || undefined;
    this.status = status;
  }

  get isOffline() {
    return this.status === 0;
  }

  /** What to do, if the server has not said it. */
  get advice() {
    if (this.hint) return this.hint;
    if (this.isOffline) return msg('Check the connection. It is tried again by itself.');
    if (this.code === 'PGRST202' || this.code === 'PGRST205' || this.code === 'PGRST106') {
      return msg('The REST server does not offer this. Its schema cache may be old, or the schema is not exposed.');
    }
    if (this.status === 401) return msg('Sign in again.');
    if (this.status === 429) return msg('Wait a while before the next try.');
    if (this.status >= 500) return msg('Try again later. If it stays so, tell whoever runs this server.');
    return undefined;
  }
}

/** Sends a request of supabase-js and returns its data. Throws a `Refusal`. */
export async function ask(request) {
  const { data, error, status } = await request;
  if (!error && !(status >= 400)) return data;
  throw refusal(error, status);
}

/** Sends a request to Supabase Auth by supabase-js and returns its data. Throws a `Refusal`. */
export async function askAuth(request) {
  const { data, error } = await request;
  if (error) throw refusal(error, error.status);
  return data;
}

function refusal(error, status = 0) {
  // Where no answer came, the message is that of `fetch`, which each browser words in its own way.
  if (!status) return new Refusal({ message: msg('The server cannot be reached.'), status: 0 });
  const message = error?.message || msg('The server refused, and did not say why.');
  return new Refusal({ message, hint: error?.hint, code: error?.code, status });
}
