// What the tests of the gate start from: a REST server that calls it, and how requests are made and refused.
import assert from 'node:assert/strict';
import { Agent, request as httpRequest } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { ALICE, start } from './fixture.mjs';

export const KINDS = ['jwt', 'opaque'];
export const MONTH = 31 * 86400;
/** Well-formed, and of no key. */
export const UNKNOWN_TOKEN = 'sbpat_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ2zaKtE';

/** How the gate refuses: status, message, hint. */
export const REVOKED = [401, 'the personal access token has been revoked', 'Ask for a new one.'];
export const UNKNOWN = [401, 'there is no such personal access token', 'Ask for a new one.'];
export const INCOMPLETE = [401, 'the value of x-api-key is not a complete token',
  'Copy it again, from its beginning to its end.'];
export const DENIED = [401, 'this token is no longer accepted', 'Use another one.'];
export const SESSION_ENDED = [401, 'the session of this login has ended', 'Log in again.'];
export const ADDRESS_UNKNOWN = [403, 'the personal access token may be used from certain addresses only, and yours is not known',
  'Set supabase_pat.trusted_proxies to the number of proxies in front of the REST server that add to X-Forwarded-For.'];
export const OTHER_ADDRESS = [403, 'the personal access token may not be used from 127.0.0.1', null];
export const lacks = (scope) => [403, `the personal access token lacks the scope ${scope}`, 'Use a token with that scope.'];

export const FUNCTIONS = `
  grant all on todos to service_role;
  create table calls (n int, at timestamptz not null default clock_timestamp());
  grant insert on calls to authenticated;
  create function add_todo(title text) returns void
      language sql as 'insert into todos (title) values (title)';
  create function titles() returns setof text
      language sql stable as 'select title from todos order by id';
  create function whoami() returns json language sql stable as $$
      select json_build_object('role', current_user, 'uid', auth.uid(), 'key', current_api_key_id(),
          'seen', nullif(current_setting('app.seen', true), ''))
  $$;
  create function pause(seconds float8) returns void
      language sql stable as 'select pg_sleep(seconds)';
`;

/** All ways to ask for something: method, path, the scope that allows it, and the body. */
export const REQUESTS = [
  ['GET', '/todos', 'todos:read'],
  ['POST', '/todos', 'todos:write', { title: 'new' }],
  ['PATCH', `/todos?user_id=eq.${ALICE}`, 'todos:write', { title: 'changed' }],
  ['DELETE', `/todos?user_id=eq.${ALICE}`, 'todos:delete'],
  ['POST', '/rpc/add_todo', 'rpc/add_todo:call', { title: 'by a function' }],
  ['POST', '/rpc/titles', 'rpc/titles:call', {}],
  ['GET', '/rpc/titles', 'rpc/titles:call'],
];

/** A REST server and what the tests do to it. Its requests are judged on one `road` or the other: by the guard, by the
 * gate as its pre-request function, or by both. */
export async function open({ settings = {}, env = {}, sql = '', road = process.env.ROAD ?? 'both', ...options } = {}) {
  const world = await start({
    ...options,
    settings: { 'supabase_pat.flush_interval': 1, ...(road === 'gate' ? { 'supabase_pat.guarded_logins': '' } : {}), ...settings },
    env: { ...(road === 'guard' ? {} : { PGRST_DB_PRE_REQUEST: 'pat.gate' }), ...env },
    sql: FUNCTIONS + sql,
  });
  const db = await world.cluster.connect('postgres');
  const agent = new Agent({ keepAlive: true });
  const rows = async (sql, values) => (await db.query(sql, values)).rows;
  const value = async (sql, values) => Object.values((await rows(sql, values))[0])[0];
  return {
    ...world,
    agent,
    rows,
    value,
    login: (user) => value('select (pat.mint_session($1)).access_token', [user]),
    /** A key, with `send`, the part of a request that brings its token. */
    async mint(user, { kind = 'jwt', scopes = null, allowedIps = null, limit = null, window = '31 days' } = {}) {
      const [{ id, token }] = await rows(
        `select id, token from mint_pat(user_id => $1, name => 'test', kind => $2, scopes => $3,
           allowed_ips => $4::cidr[], rate_limit => $5, rate_window => $6)`,
        [user, kind, scopes, allowedIps, limit, window],
      );
      return { id, token, send: sending(kind, token) };
    },
    ask: (method, path, options) => ask(world.rest.port, method, `/api${path}`, { agent, ...options }),
    todos: () => value('select json_agg(t order by id) from todos t'),
    async close() {
      agent.destroy();
      await db.end();
      world.stop();
    },
  };
}

export const sending = (kind, token) => (kind === 'opaque' ? { headers: { 'x-api-key': token } } : { token });

/** One request. A header whose value is a list is sent in as many lines. It hangs up after `patience` ms without an
 * answer. */
export function ask(port, method, path, { token, body, headers = {}, agent, from, patience = 10_000 } = {}) {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const asked = httpRequest({
      host: '127.0.0.1', port, method, path, agent, localAddress: from, timeout: patience,
      headers: {
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...(text ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) } : {}),
        ...headers,
      },
    }, (answer) => {
      const chunks = [];
      answer.on('data', (chunk) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        let data = Buffer.concat(chunks).toString();
        try { data = JSON.parse(data); } catch { /* an empty body, say */ }
        resolve({ status: answer.statusCode, data, headers: answer.headers });
      });
    });
    asked.on('timeout', () => asked.destroy(new Error(`${method} ${path}: no answer`)));
    asked.on('error', reject);
    asked.end(text);
  });
}

export const titlesOf = ({ status, data }) => {
  assert.equal(status, 200, JSON.stringify(data));
  return data.map((todo) => todo.title);
};

/** PostgREST's body of an error. */
export const body = (code, message, hint = null, details = null) => ({ code, message, details, hint });

export function assertRefused(answer, [status, message, hint]) {
  assert.deepEqual(answer.data, body(`PT${status}`, message, hint));
  assert.equal(answer.status, status);
  assert.equal(answer.headers['www-authenticate'], status === 401 ? 'Bearer' : undefined);
  assert.equal(answer.headers['retry-after'], undefined);
}

/** Makes all requests, hands each answer to `check` with the scope that it needs, and sees that nothing was written. */
export async function refusing(world, send, check) {
  const before = await world.todos();
  for (const [method, path, scope, sent] of REQUESTS) {
    const answer = await world.ask(method, path, { ...send, body: sent });
    try {
      check(answer, scope);
    } catch (error) {
      error.message = `${method} ${path}: ${error.message}`;
      throw error;
    }
  }
  assert.deepEqual(await world.todos(), before);
}

/** Waits for what comes within a few seconds, and returns it. */
export async function eventually(find, seconds = 5) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await find();
    if (found) return found;
    if (Date.now() > end) throw new Error('it did not come');
    await sleep(50);
  }
}

/** `count` requests, so many at a time. */
export async function many(count, atATime, one) {
  const answers = [];
  let next = 0;
  await Promise.all(Array.from({ length: atATime }, async () => {
    while (next < count) {
      const n = next;
      next += 1;
      answers[n] = await one(n);
    }
  }));
  return answers;
}
