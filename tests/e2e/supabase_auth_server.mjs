// Answers what supabase-js asks Supabase Auth for when somebody signs in or has forgotten the password, as its reference
// describes it, for tests where Supabase Auth is not to be had. Sessions are rows of auth.sessions, as Supabase Auth
// writes them, and end when these are deleted.
import { randomUUID } from 'node:crypto';
import { sign } from './fixture.mjs';

const LEAST_PASSWORD = 8;

export class SupabaseAuth {
  /** By address: `id`, `password`, and the `code` that was sent. */
  users = new Map();
  /** What was asked for, as `METHOD path`, with the bodies. */
  asked = [];
  /** What answers wait for. */
  held = Promise.resolve();

  constructor({ cluster }) {
    this.cluster = cluster;
  }

  add(email, password) {
    const id = randomUUID();
    this.sql(`insert into auth.users (id, aud, role, email, email_confirmed_at, created_at) values ('${id}', 'authenticated', 'authenticated', '${email}', now(), now())`);
    this.users.set(email, { id, email, password });
    return this.users.get(email);
  }

  sql(text) {
    return this.cluster.psql('postgres', text);
  }

  /** For `createServer`. */
  answer = async (from, to) => {
    const body = await read(from);
    const { pathname, searchParams } = new URL(from.url, 'http://x');
    const path = pathname.replace('/auth/v1', '');
    this.asked.push({ what: `${from.method} ${path}${searchParams.has('scope') ? ` ${searchParams.get('scope')}` : ''}`, body });
    const [status, answer] = await this.handle(`${from.method} ${path}`, body, searchParams, from.headers.authorization);
    await this.held;
    to.writeHead(status, { 'content-type': 'application/json', 'x-supabase-api-version': '2024-01-01' }).end(answer && JSON.stringify(answer));
  };

  async handle(what, body, query, authorization) {
    const user = this.users.get(body.email);
    switch (what) {
      case 'POST /token':
        if (query.get('grant_type') !== 'password' || user?.password !== body.password) return refusal(400, 'invalid_credentials', 'Invalid login credentials');
        return [200, await this.begin(user, 'password')];
      case 'POST /signup':
        return refusal(422, 'signup_disabled', 'Signups not allowed for this instance');
      case 'POST /recover':
        if (user) user.code = String(100_000 + this.asked.length);
        return [200, {}];
      case 'POST /verify':
        if (body.type !== 'recovery' || !user?.code || user.code !== body.token) return refusal(403, 'otp_expired', 'Token has expired or is invalid');
        user.code = undefined;
        return [200, await this.begin(user, 'otp')];
      default:
    }
    const { sub, session_id: session } = claimsOf(authorization);
    const known = [...this.users.values()].find(({ id }) => id === sub);
    if (!known) return refusal(401, 'no_authorization', 'This endpoint requires a valid Bearer token');
    if (this.sql(`select count(*) from auth.sessions where id = '${session}'`) !== '1') {
      return refusal(403, 'session_not_found', 'Session from session_id claim in JWT does not exist');
    }
    switch (what) {
      case 'GET /user':
        return [200, shown(known)];
      case 'PUT /user':
        if (body.password.length < LEAST_PASSWORD) {
          return [422, { code: 'weak_password', message: `Password should be at least ${LEAST_PASSWORD} characters.`, weak_password: { reasons: ['length'] } }];
        }
        if (body.password === known.password) return refusal(422, 'same_password', 'New password should be different from the old password.');
        known.password = body.password;
        return [200, shown(known)];
      case 'POST /logout': {
        const which = { local: `id = '${session}'`, others: `user_id = '${sub}' and id <> '${session}'`, global: `user_id = '${sub}'` };
        this.sql(`delete from auth.sessions where ${which[query.get('scope') ?? 'global']}`);
        return [204];
      }
      default:
        return refusal(404, 'not_found', 'Not found');
    }
  }

  /** A session that begins now. */
  async begin(user, method) {
    const session = randomUUID();
    this.sql(`insert into auth.sessions (id, user_id, created_at, aal) values ('${session}', '${user.id}', now(), 'aal1')`);
    const now = Math.floor(Date.now() / 1000);
    const token = await sign({
      aud: 'authenticated', role: 'authenticated', sub: user.id, email: user.email, session_id: session, aal: 'aal1',
      amr: [{ method, timestamp: now }], is_anonymous: false,
    });
    return { access_token: token, token_type: 'bearer', expires_in: 3600, expires_at: now + 3600, refresh_token: randomUUID(), user: shown(user) };
  }
}

function shown({ id, email }) {
  return { id, aud: 'authenticated', role: 'authenticated', email, app_metadata: {}, user_metadata: {}, created_at: '2026-01-01T00:00:00Z' };
}

function refusal(status, code, message) {
  return [status, { code, message }];
}

function claimsOf(authorization = '') {
  try {
    return JSON.parse(Buffer.from(authorization.split('.')[1], 'base64url'));
  } catch {
    return {};
  }
}

async function read(from) {
  let text = '';
  for await (const part of from) text += part;
  return text ? JSON.parse(text) : {};
}
