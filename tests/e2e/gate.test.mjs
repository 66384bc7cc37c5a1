// The gate, pat.gate(), before every request to a real REST server.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { Agent, createServer, request as httpRequest } from 'node:http';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@supabase/supabase-js';
import { ALICE, BOB, ROLES, sign, start } from './fixture.mjs';

const KINDS = ['jwt', 'opaque'];
const MONTH = 31 * 86400;
/** Well-formed, and of no key. */
const UNKNOWN_TOKEN = 'sbpat_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ2zaKtE';

/** How the gate refuses: status, message, hint. */
const REVOKED = [401, 'the personal access token has been revoked', 'Ask for a new one.'];
const UNKNOWN = [401, 'there is no such personal access token', 'Ask for a new one.'];
const INCOMPLETE = [401, 'the value of x-api-key is not a complete token',
  'Copy it again: it has 48 characters and begins with sbpat_.'];
const DENIED = [401, 'this token is no longer accepted', 'Use another one.'];
const SESSION_ENDED = [401, 'the session of this login has ended', 'Log in again.'];
const ADDRESS_UNKNOWN = [403, 'the personal access token is for certain addresses, and yours is not known',
  'supabase_pat.trusted_proxies says how many proxies in front of the REST server tell where a request comes from.'];
const OTHER_ADDRESS = [403, 'the personal access token may not be used from 127.0.0.1', null];
const lacks = (scope) => [403, `the personal access token lacks the scope ${scope}`, 'Use a token with that scope.'];

const FUNCTIONS = `
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
const REQUESTS = [
  ['GET', '/todos', 'todos:read'],
  ['POST', '/todos', 'todos:write', { title: 'new' }],
  ['PATCH', `/todos?user_id=eq.${ALICE}`, 'todos:write', { title: 'changed' }],
  ['DELETE', `/todos?user_id=eq.${ALICE}`, 'todos:delete'],
  ['POST', '/rpc/add_todo', 'rpc/add_todo:call', { title: 'by a function' }],
  ['POST', '/rpc/titles', 'rpc/titles:call', {}],
  ['GET', '/rpc/titles', 'rpc/titles:call'],
];

/** A REST server with the gate, and what the tests do to it. */
async function open({ settings = {}, env = {}, sql = '' } = {}) {
  const world = await start({
    settings: { 'supabase_pat.flush_interval': 1, ...settings },
    env: { PGRST_DB_PRE_REQUEST: 'pat.gate', ...env },
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

const sending = (kind, token) => (kind === 'opaque' ? { headers: { 'x-api-key': token } } : { token });

/** One request. A header whose value is a list is sent in as many lines. */
function ask(port, method, path, { token, body, headers = {}, agent, from } = {}) {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const asked = httpRequest({
      host: '127.0.0.1', port, method, path, agent, localAddress: from, timeout: 10_000,
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

const titlesOf = ({ status, data }) => {
  assert.equal(status, 200, JSON.stringify(data));
  return data.map((todo) => todo.title);
};

/** PostgREST's body of an error. */
const body = (code, message, hint = null, details = null) => ({ code, message, details, hint });

function assertRefused(answer, [status, message, hint]) {
  assert.deepEqual(answer.data, body(`PT${status}`, message, hint));
  assert.equal(answer.status, status);
  assert.equal(answer.headers['www-authenticate'], status === 401 ? 'Bearer' : undefined);
  assert.equal(answer.headers['retry-after'], undefined);
}

/** Makes all requests, hands each answer to `check` with the scope that it needs, and sees that nothing was written. */
async function refusing(world, send, check) {
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
async function eventually(find, seconds = 5) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await find();
    if (found) return found;
    if (Date.now() > end) throw new Error('it did not come');
    await sleep(50);
  }
}

/** `count` requests, so many at a time. */
async function many(count, atATime, one) {
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

describe('the gate', () => {
  let world;
  before(async () => { world = await open(); });
  after(() => world.close());
  beforeEach(() => world.rows(`
    truncate todos restart identity;
    insert into todos (user_id, title) values ('${ALICE}', 'alice 1'), ('${ALICE}', 'alice 2'), ('${BOB}', 'bob 1')`));

  for (const kind of KINDS) {
    test(`a live ${kind} token passes with every request, and its writes are there`, async () => {
      const { send } = await world.mint(ALICE, { kind });
      for (const [method, path, , sent] of REQUESTS) {
        const answer = await world.ask(method, path, { ...send, body: sent });
        assert.ok(answer.status >= 200 && answer.status < 300, `${method} ${path}: ${answer.status}`);
      }
      const left = (await world.todos()).map(({ user_id: user, title }) => [user, title]);
      assert.deepEqual(left, [[BOB, 'bob 1'], [ALICE, 'by a function']]);
    });

    for (const [what, change, refusal] of [
      ['was revoked', 'update pat.api_keys set revoked_at = now()', REVOKED],
      ['has expired', `update pat.api_keys set expires_at = now() - interval '1 second'`,
        [401, 'the personal access token has expired', 'Ask for a new one.']],
      ['was deleted', 'delete from pat.api_keys', UNKNOWN],
    ]) {
      test(`a token of kind ${kind} that ${what} gets 401`, async () => {
        const { id, send } = await world.mint(ALICE, { kind });
        assert.deepEqual(titlesOf(await world.ask('GET', '/todos', send)), ['alice 1', 'alice 2']);
        await world.rows(`${change} where id = $1`, [id]);
        await refusing(world, send, (answer) => assertRefused(answer, refusal));
      });
    }

    for (const [what, column, message] of [
      ['banned', 'banned_until', 'the user of the personal access token is banned'],
      ['deleted', 'deleted_at', 'the user of the personal access token no longer exists'],
    ]) {
      test(`a token of kind ${kind} gets 401 while its user is ${what}`, async () => {
        const { send } = await world.mint(ALICE, { kind });
        await world.rows(`update auth.users set ${column} = now() + interval '1 day' where id = $1`, [ALICE]);
        try {
          await refusing(world, send, (answer) => assertRefused(answer, [401, message, null]));
        } finally {
          await world.rows(`update auth.users set ${column} = null`);
        }
        assert.deepEqual(titlesOf(await world.ask('GET', '/todos', send)), ['alice 1', 'alice 2']);
      });
    }

    test(`a token of kind ${kind} that was denied gets 401`, async () => {
      const { token, send } = await world.mint(ALICE, { kind });
      await world.rows('select pat.deny_token($1)', [token]);
      await refusing(world, send, (answer) => assertRefused(answer, kind === 'opaque' ? REVOKED : DENIED));
    });

    test(`a token of kind ${kind} for certain addresses gets 403 where no proxy tells the address`, async () => {
      const { send } = await world.mint(ALICE, { kind, allowedIps: ['127.0.0.0/8'] });
      for (const forged of [
        {}, { 'x-forwarded-for': '127.0.0.1' }, { 'x-forwarded-for': ['127.0.0.1', '127.0.0.1'] },
        { 'x-real-ip': '127.0.0.1', forwarded: 'for=127.0.0.1' },
      ]) {
        const headers = { ...send.headers, ...forged };
        await refusing(world, { ...send, headers }, (answer) => assertRefused(answer, ADDRESS_UNKNOWN));
      }
    });

    test(`a token of kind ${kind} without the scope gets 403, which names the scope`, async () => {
      const { send } = await world.mint(ALICE, { kind, scopes: ['notes:*', 'rpc/other:call'] });
      await refusing(world, send, (answer, scope) => assertRefused(answer, lacks(scope)));
    });

    test(`a token of kind ${kind} that only reads does that, and cannot write`, async () => {
      const { send } = await world.mint(ALICE, { kind, scopes: ['*:read'] });
      await refusing(world, send, (answer, scope) => (scope === 'todos:read'
        ? assert.deepEqual(titlesOf(answer), ['alice 1', 'alice 2'])
        : assertRefused(answer, lacks(scope))));
    });

    test(`a token of kind ${kind} that has made its requests gets 429, and when to come again`, async () => {
      const { send } = await world.mint(ALICE, { kind, limit: 2 });
      for (let i = 0; i < 2; i += 1) {
        assert.deepEqual(titlesOf(await world.ask('GET', '/todos', send)), ['alice 1', 'alice 2']);
      }
      await refusing(world, send, ({ status, data, headers }) => {
        const seconds = headers['retry-after'];
        assert.match(seconds, /^[1-9]\d*$/);
        assert.ok(Number(seconds) <= MONTH, seconds);
        assert.deepEqual(data, body('PT429', `the personal access token has made its 2 requests of ${MONTH} seconds`,
          null, `Try again in ${seconds} seconds.`));
        assert.equal(status, 429);
      });
    });

    test(`a token of kind ${kind} revokes itself, whatever its scopes`, async () => {
      for (const scopes of [null, ['todos:write'], ['todos:read']]) {
        const { id, send } = await world.mint(ALICE, { kind, scopes });
        const answer = await world.ask('POST', '/rpc/revoke_pat', { ...send, body: { id } });
        assert.deepEqual([answer.status, answer.data], [200, true], `with ${scopes}: ${JSON.stringify(answer.data)}`);
        assert.equal((await world.ask('GET', '/todos', send)).status, 401);
      }
    });
  }

  test('HEAD is refused as GET is, without a body', async () => {
    const { id, send } = await world.mint(ALICE);
    assert.equal((await world.ask('HEAD', '/todos', send)).status, 200);
    await world.rows('select revoke_pat($1)', [id]);
    const { status, data } = await world.ask('HEAD', '/todos', send);
    assert.deepEqual([status, data], [401, '']);
  });

  test('an opaque token that is unknown, or was cut, gets 401', async () => {
    const { token } = await world.mint(ALICE, { kind: 'opaque' });
    await refusing(world, sending('opaque', UNKNOWN_TOKEN), (answer) => assertRefused(answer, UNKNOWN));
    const changed = `${token.slice(0, -1)}${token.endsWith('0') ? '1' : '0'}`;
    for (const bad of [token.slice(0, -1), changed, `${token}${token}`, `${token}, ${token}`, 'sbpat_']) {
      await refusing(world, sending('opaque', bad), (answer) => assertRefused(answer, INCOMPLETE));
    }
  });

  test('a JWT with the claims of a key that there is not, or of another user, gets 401', async () => {
    const { id } = await world.mint(ALICE);
    const claims = { role: 'authenticated', type: 'personal_access_token', sub: ALICE, jti: id };
    for (const change of [{ jti: randomUUID() }, { sub: BOB }]) {
      const token = await sign({ ...claims, ...change });
      await refusing(world, { token }, (answer) => assertRefused(answer, UNKNOWN));
    }
    assert.deepEqual(titlesOf(await world.ask('GET', '/todos', { token: await sign(claims) })), ['alice 1', 'alice 2']);
  });

  test('claims that no issuer writes get 401', async () => {
    const token = await sign({ role: 'authenticated', sub: ALICE, type: 'personal_access_token' });
    const refusal = [401, 'the claims of this request are malformed', null];
    await refusing(world, { token }, (answer) => assertRefused(answer, refusal));
  });

  test('a login whose session has ended gets 401, and one without a session passes', async () => {
    const token = await world.login(ALICE);
    assert.deepEqual(titlesOf(await world.ask('GET', '/todos', { token })), ['alice 1', 'alice 2']);
    await world.rows('delete from auth.sessions where user_id = $1', [ALICE]);
    await refusing(world, { token }, (answer) => assertRefused(answer, SESSION_ENDED));
    const foreign = await sign({ role: 'authenticated', sub: ALICE });
    assert.deepEqual(titlesOf(await world.ask('GET', '/todos', { token: foreign })), ['alice 1', 'alice 2']);
  });

  test('a login that was denied gets 401, and the next one of that user passes', async () => {
    const [token, next] = [await world.login(ALICE), await world.login(ALICE)];
    await world.rows('select pat.deny_token($1)', [token]);
    await refusing(world, { token }, (answer) => assertRefused(answer, DENIED));
    assert.deepEqual(titlesOf(await world.ask('GET', '/todos', { token: next })), ['alice 1', 'alice 2']);
  });

  describe('with supabase-js', () => {
    let url;
    before(async () => { url = await world.gateway(); });
    const client = async (headers) => createClient(url, await sign({ role: 'anon', iss: 'supabase' }), {
      global: { headers }, auth: { persistSession: false, autoRefreshToken: false },
    });

    test('an opaque token in x-api-key beside the anon key selects, inserts, calls, and is revoked', async () => {
      const { id, token } = await world.mint(ALICE, { kind: 'opaque' });
      const script = await client({ 'x-api-key': token });
      const read = await script.from('todos').select('title').order('id');
      assert.deepEqual(read.data, [{ title: 'alice 1' }, { title: 'alice 2' }]);
      const written = await script.from('todos').insert({ title: 'from the script' }).select('user_id, title').single();
      assert.equal(written.error, null);
      assert.deepEqual(written.data, { user_id: ALICE, title: 'from the script' });
      assert.deepEqual((await script.rpc('titles')).data, ['alice 1', 'alice 2', 'from the script']);
      assert.deepEqual((await script.rpc('whoami')).data, { role: 'authenticated', uid: ALICE, key: id, seen: null });
      assert.deepEqual((await script.rpc('revoke_pat', { id })).data, true);
      const todos = script.from('todos');
      for (const refused of [await todos.select(), await todos.insert({ title: 'x' }), await script.rpc('titles')]) {
        const [status, message, hint] = REVOKED;
        assert.deepEqual([refused.status, refused.data], [status, null]);
        assert.deepEqual({ ...refused.error }, body('PT401', message, hint));
      }
      // Without it, the client is anonymous.
      assert.deepEqual((await (await client({})).from('todos').select()).data, []);
    });

    test("beside another user's login or the service key, it is the opaque token's user", async () => {
      const { id, token } = await world.mint(ALICE, { kind: 'opaque' });
      for (const other of [await world.login(BOB), await world.serviceKey()]) {
        const both = await client({ 'x-api-key': token, Authorization: `Bearer ${other}` });
        assert.deepEqual((await both.rpc('whoami')).data, { role: 'authenticated', uid: ALICE, key: id, seen: null });
        const read = await both.from('todos').select('title').order('id');
        assert.deepEqual(read.data, [{ title: 'alice 1' }, { title: 'alice 2' }]);
        assert.equal((await both.from('todos').insert({ title: 'x', user_id: BOB })).error.code, '42501');
      }
    });
  });
});

test('a connection of the pool does not keep whose request it carried', async () => {
  const world = await open({ env: { PGRST_DB_POOL: '2' } });
  try {
    const [opaque, jwt] = [await world.mint(ALICE, { kind: 'opaque' }), await world.mint(BOB)];
    const reader = await world.mint(ALICE, { kind: 'opaque', scopes: ['*:read', 'rpc/whoami:call'] });
    const anonymous = { role: 'anon', uid: null, key: null, seen: null };
    const user = (uid, key = null) => ({ role: 'authenticated', uid, key, seen: null });
    const cases = [
      [opaque.send, user(ALICE, opaque.id)],
      [{}, anonymous],
      [{ token: await sign({ role: 'anon' }) }, anonymous],
      [{ token: await world.login(BOB) }, user(BOB)],
      [sending('opaque', UNKNOWN_TOKEN), undefined],
      [reader.send, user(ALICE, reader.id)],
      [jwt.send, user(BOB, jwt.id)],
      [{ token: await world.serviceKey() }, { ...anonymous, role: 'service_role' }],
    ];
    const answers = await many(1200, 20, async (n) => {
      const [send, expected] = cases[(n * 5 + (n >> 4)) % cases.length];
      const isPost = n % 3 === 0;
      const [method, body] = isPost ? ['POST', {}] : ['GET', undefined];
      const { status, data } = await world.ask(method, '/rpc/whoami', { ...send, body });
      assert.deepEqual([status, expected ? data : undefined], [expected ? 200 : 401, expected]);
      return expected?.role;
    });
    const asked = (role) => answers.filter((answer) => answer === role).length;
    for (const role of ['anon', 'authenticated', 'service_role', undefined]) {
      assert.ok(asked(role) >= 100, `${role}: ${asked(role)}`);
    }
  } finally {
    await world.close();
  }
});

describe('with many connections', () => {
  const CONNECTIONS = 50;
  let world;
  before(async () => { world = await open({ env: { PGRST_DB_POOL: String(CONNECTIONS + 4) } }); });
  after(() => world.close());

  test('a key gets its allowance in each window, neither more nor less, and nobody else waits', async () => {
    const [LIMIT, WINDOW, WINDOWS] = [20, 2000, 4];
    const [limited, free] = [await world.mint(ALICE, { limit: LIMIT, window: '2 seconds' }), await world.mint(ALICE)];
    const login = await world.login(BOB);
    // From the first part of a window to the middle of the last one.
    const begin = Math.ceil(Date.now() / WINDOW) * WINDOW;
    await sleep(begin + 100 - Date.now());
    let isOver = false;
    const flood = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
    const [admitted, refused] = [[], []];
    const workers = Array.from({ length: CONNECTIONS }, async () => {
      while (!isOver) {
        const answer = await world.ask('POST', '/calls', { ...limited.send, body: { n: 1 }, agent: flood });
        (answer.status === 201 ? admitted : refused).push(answer);
      }
    });
    const others = [free.send, { token: login }].map(async (send) => {
      const answers = [];
      while (!isOver) {
        const askedAt = performance.now();
        const { status } = await world.ask('GET', '/todos', send);
        answers.push({ status, took: performance.now() - askedAt });
      }
      return answers;
    });
    await sleep(begin + (WINDOWS - 0.5) * WINDOW - Date.now());
    const connections = Object.values(flood.sockets).flat().length;
    isOver = true;
    await Promise.all(workers);
    flood.destroy();
    assert.equal(connections, CONNECTIONS);

    const windows = await world.rows(`
      select floor(extract(epoch from at) * 1000 / $1) as number, count(*)::int as calls
      from calls group by number order by number`, [WINDOW]);
    assert.deepEqual(windows.map(({ calls }) => calls), Array(WINDOWS).fill(LIMIT));
    assert.equal(admitted.length, LIMIT * WINDOWS);
    assert.ok(refused.length > admitted.length, `${refused.length} refused`);
    for (const { status, headers, data } of refused) {
      assert.deepEqual([status, data.code], [429, 'PT429']);
      assert.ok(['1', '2'].includes(headers['retry-after']), headers['retry-after']);
    }
    for (const answers of await Promise.all(others)) {
      assert.ok(answers.length > LIMIT, `${answers.length} requests`);
      assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
      const slowest = Math.max(...answers.map(({ took }) => took));
      assert.ok(slowest < WINDOW, `${slowest} ms`);
    }
  });

  test('a denied service key is refused from the next request on, on all connections, and no other', async () => {
    const [{ denied, anon, service }] = await world.rows(`select pat.mint_api_key('service_role') as denied,
      pat.mint_api_key('anon') as anon, pat.mint_api_key('service_role', expires_in => '1 year') as service`);
    const iat = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url')).iat;
    assert.deepEqual([iat(anon), iat(service)], [iat(denied), iat(denied)]);
    const whoami = async (token) => {
      const { status, data } = await world.ask('GET', '/rpc/whoami', { token });
      return status === 200 ? data.role : status;
    };
    assert.deepEqual(await Promise.all([denied, anon, service].map(whoami)), ['service_role', 'anon', 'service_role']);
    // Every connection has seen the key while it was good.
    const pauses = await many(CONNECTIONS, CONNECTIONS, () => world.ask('GET', '/rpc/pause?seconds=0.5', { token: denied }));
    for (const { status } of pauses) assert.ok(status < 300, String(status));

    let deniedAt = Infinity;
    let isOver = false;
    const seen = [];
    const workers = Array.from({ length: 20 }, async () => {
      while (!isOver) {
        const askedAt = performance.now();
        const { status } = await world.ask('GET', '/todos', { token: denied });
        seen.push({ wasDenied: askedAt > deniedAt, status });
      }
    });
    let good;
    let time;
    try {
      await sleep(300);
      good = seen.length;
      time = await world.value('select clock_timestamp()');
      await world.rows(`select pat.deny_token($1, 'in a public repository')`, [denied]);
      deniedAt = performance.now();
      await eventually(() => seen.filter(({ wasDenied }) => wasDenied).length > 10 * CONNECTIONS);
    } finally {
      isOver = true;
      await Promise.all(workers);
    }
    assert.ok(good > 10, `${good} requests`);
    const statuses = (answers) => new Set(answers.map(({ status }) => status));
    assert.deepEqual(statuses(seen.slice(0, good)), new Set([200]));
    assert.deepEqual(statuses(seen.filter(({ wasDenied }) => wasDenied)), new Set([401]));
    const [{ all, idle }] = await world.rows(`
      select count(*)::int as all, count(*) filter (where query_start < $1)::int as idle
      from pg_stat_activity where usename = 'authenticator' and query !~* '^listen'`, [time]);
    assert.ok(all >= CONNECTIONS, `${all} connections`);
    assert.equal(idle, 0);

    assert.deepEqual(await Promise.all([anon, service].map(whoami)), ['anon', 'service_role']);
    await refusing(world, { token: denied }, (answer) => assertRefused(answer, DENIED));
  });

  test('a denied key is refused in whichever of two Authorization headers it is', async () => {
    const [{ denied, anon, service }] = await world.rows(`
      select pat.mint_api_key('service_role', expires_in => '2 years') as denied,
        pat.mint_api_key('anon') as anon, pat.mint_api_key('service_role', expires_in => '1 year') as service`);
    const both = (...tokens) => world.ask('GET', '/rpc/whoami', {
      headers: { authorization: tokens.map((token) => `Bearer ${token}`) },
    });
    assert.equal((await both(denied, anon)).data.role, 'service_role');
    await world.rows('select pat.deny_token($1)', [denied]);
    for (const tokens of [[denied, anon], [anon, denied], [denied, service], [service, denied], [denied, denied]]) {
      assertRefused(await both(...tokens), DENIED);
    }
    assert.equal((await both(service, anon)).data.role, 'service_role');
    assert.equal((await both(anon, service)).data.role, 'anon');
  });

  test('an opaque token does not get past the gate with a denied key', async () => {
    const denied = await world.value(`select pat.mint_api_key('anon', expires_in => '3 years')`);
    const { send } = await world.mint(ALICE, { kind: 'opaque' });
    assert.equal((await world.ask('GET', '/rpc/whoami', { ...send, token: denied })).data.uid, ALICE);
    await world.rows('select pat.deny_token($1)', [denied]);
    assertRefused(await world.ask('GET', '/rpc/whoami', { ...send, token: denied }), DENIED);
  });
});

describe('behind a trusted proxy', () => {
  let world;
  const proxies = {};
  before(async () => {
    world = await open({
      settings: { 'supabase_pat.trusted_proxies': 1, 'supabase_pat.max_keys_per_user': 1000 },
    });
    for (const style of ['list', 'line']) proxies[style] = await startProxy(world.rest.port, style);
  });
  after(async () => {
    for (const proxy of Object.values(proxies)) {
      proxy.closeAllConnections();
      proxy.close();
    }
    await world.close();
  });

  /** A reverse proxy that says whom it hears from: at the end of the list, as nginx does, or in a
   * line of its own after the others, as HAProxy does. */
  async function startProxy(port, style) {
    const proxy = createServer((from, to) => {
      const { connection: _, ...headers } = from.headers;
      const chain = [...(from.headersDistinct['x-forwarded-for'] ?? []), from.socket.remoteAddress];
      headers['x-forwarded-for'] = style === 'list' ? chain.join(', ') : chain;
      const forwarded = httpRequest({
        host: '127.0.0.1', port, path: from.url, method: from.method, headers, agent: world.agent,
      }, (answer) => {
        to.writeHead(answer.statusCode, answer.headers);
        answer.pipe(to);
      });
      from.pipe(forwarded);
    });
    await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  for (const [style, name] of [['list', 'adds to the list'], ['line', 'adds a line']]) {
    test(`where the proxy ${name}, a client cannot forge its address`, async () => {
      const { port } = proxies[style].address();
      for (const kind of KINDS) {
        const { send } = await world.mint(ALICE, { kind, allowedIps: ['127.0.0.2/32', '192.0.2.0/24'] });
        for (const forged of [undefined, '127.0.0.2', '192.0.2.1', '127.0.0.2, 192.0.2.1', ['192.0.2.1', '127.0.0.2'],
          ['127.0.0.2', '127.0.0.2', '127.0.0.2'], '127.0.0.2,', ['127.0.0.2', ''], '"127.0.0.2"', '127.0.0.2\t']) {
          const headers = { ...send.headers, 'x-real-ip': '127.0.0.2' };
          if (forged !== undefined) headers['X-Forwarded-For'] = forged;
          const through = (from) => ask(port, 'GET', '/api/todos', { ...send, headers, from });
          assertRefused(await through('127.0.0.1'), OTHER_ADDRESS);
          assert.deepEqual(titlesOf(await through('127.0.0.2')), ['alice 1', 'alice 2'], String(forged));
        }
      }
    });
  }

  test('a refused address writes nothing', async () => {
    const { send } = await world.mint(ALICE, { allowedIps: ['127.0.0.2/32'] });
    const { port } = proxies.list.address();
    const behind = { ...world, ask: (method, path, options) => ask(port, method, `/api${path}`, options) };
    await refusing(behind, send, (answer) => assertRefused(answer, OTHER_ADDRESS));
  });

  test('reading alone says when and from where a key was last used, within the interval', async () => {
    const [{ id, send }, unused] = [await world.mint(BOB, { kind: 'opaque' }), await world.mint(BOB)];
    const token = await world.login(BOB);
    const usage = async () => {
      const path = `/api_keys?select=id,last_used_at,last_used_ip&id=in.(${id},${unused.id})&order=created_at`;
      const { data } = await world.ask('GET', path, { token });
      assert.deepEqual(data[1], { id: unused.id, last_used_at: null, last_used_ip: null });
      return data[0];
    };
    assert.deepEqual(await usage(), { id, last_used_at: null, last_used_ip: null });
    for (const address of ['192.0.2.7', '2001:db8::7']) {
      const askedAt = Date.now();
      titlesOf(await world.ask('GET', '/todos', { headers: { ...send.headers, 'x-forwarded-for': address } }));
      const answeredAt = Date.now();
      const found = await eventually(async () => {
        const used = await usage();
        return used.last_used_ip === address && used;
      }, 3);
      const usedAt = Date.parse(found.last_used_at);
      assert.ok(usedAt >= askedAt - 1 && usedAt <= answeredAt + 1, `${usedAt} is not from ${askedAt} to ${answeredAt}`);
    }
  });

  /** How the table of last uses was written since the last call. */
  let known = { inserted: 0, updated: 0, hot: 0 };
  const writes = async () => {
    await sleep(300); // a writer reports what it has done when it ends
    const [now] = await world.rows(`
      select n_tup_ins::int as inserted, n_tup_upd::int as updated, n_tup_hot_upd::int as hot
      from pg_stat_user_tables where relid = 'pat.api_key_usage'::regclass`);
    const since = Object.fromEntries(Object.entries(now).map(([name, count]) => [name, count - known[name]]));
    known = now;
    return since;
  };
  /** Waits until all these keys were written to have been used after a time, in milliseconds. */
  const written = (ids, time) => eventually(async () => await world.value(
    'select count(*)::int from pat.api_key_usage where key_id = any ($1) and last_used_at >= $2',
    [ids, new Date(time)],
  ) === ids.length);
  const intervalsSince = (time) => Math.ceil((Date.now() - time) / 1000) + 1;

  test('ten thousand reads cost a handful of updates, all of them HOT', async () => {
    const { id, send } = await world.mint(ALICE, { kind: 'opaque' });
    await sleep(1100); // what the tests before have left to be written
    await writes();
    const beganAt = Date.now();
    const answers = await many(10_000, 200, async () => (await world.ask('GET', '/todos', send)).status);
    assert.deepEqual(new Set(answers), new Set([200]));
    const lastAt = Date.now();
    titlesOf(await world.ask('GET', '/todos', send));
    await written([id], lastAt);
    const intervals = intervalsSince(beganAt);
    const { inserted, updated, hot } = await writes();
    assert.equal(inserted, 1);
    assert.ok(updated >= 1 && updated <= intervals, `${updated} updates in ${intervals} intervals`);
    assert.equal(hot, updated);
  });

  test('the updates of many keys at once are HOT too', async () => {
    const keys = await world.rows(`
      select id, token from generate_series(1, 300) n,
        mint_pat(user_id => $1, name => 'one of many: ' || n, kind => 'opaque')`, [BOB]);
    const ids = keys.map(({ id }) => id);
    await writes();
    for (let round = 0; round < 3; round += 1) {
      const beganAt = Date.now();
      await many(keys.length, 50, (n) => world.ask('GET', '/todos', sending('opaque', keys[n].token)));
      await written(ids, beganAt);
    }
    const { inserted, updated, hot } = await writes();
    assert.equal(inserted, 300);
    assert.ok(updated >= 600, `${updated} updates`);
    assert.equal(hot, updated);
  });

  test('a key in constant use keeps nothing from being written, however slow writing is', async () => {
    const [busy, quiet, dead] = await Promise.all([1, 2, 3].map(() => world.mint(ALICE, { kind: 'opaque' })));
    await world.rows('select revoke_pat($1)', [dead.id]);
    await world.rows(`
      create function slow() returns trigger language plpgsql
          as 'begin perform pg_catalog.pg_sleep(0.02); return null; end';
      create trigger slow after insert or update on pat.api_key_usage for each statement execute function slow()`);
    let isOver = false;
    const beganAt = Date.now();
    const workers = Array.from({ length: 20 }, async () => {
      while (!isOver) titlesOf(await world.ask('GET', '/todos', busy.send));
    });
    try {
      await written([busy.id], beganAt);
      await writes();
      const askedAt = Date.now();
      titlesOf(await world.ask('GET', '/todos', quiet.send));
      assert.equal((await world.ask('GET', '/todos', dead.send)).status, 401);
      await written([quiet.id], askedAt);
      const refused = `select count(*)::int from pat.events where event = 'refused' and key_id = $1`;
      await eventually(() => world.value(refused, [dead.id]));
      const intervals = intervalsSince(askedAt);
      const { updated } = await writes();
      assert.ok(updated <= intervals, `${updated} updates in ${intervals} intervals`);
    } finally {
      isOver = true;
      await Promise.all(workers);
      await world.rows('drop function slow() cascade');
    }
  });

  test('refusals are added up in a few events, which the owner of the key sees', async () => {
    const { id, token, send } = await world.mint(ALICE, { kind: 'opaque' });
    const dead = await world.mint(BOB);
    await world.rows('update pat.api_keys set revoked_at = now() where id = any ($1)', [[id, dead.id]]);
    const [unknown, cut] = [sending('opaque', UNKNOWN_TOKEN), sending('opaque', token.slice(0, -1))];
    const beganAt = Date.now();
    const answers = await many(500, 50, async (n) => {
      const bad = [send, unknown, send, dead.send, cut][n % 5];
      const headers = { ...bad.headers, 'x-forwarded-for': '192.0.2.9' };
      return (await world.ask('GET', '/todos', { ...bad, headers })).status;
    });
    assert.deepEqual(new Set(answers), new Set([401]));
    const events = () => world.rows(`
      select event, detail, key_id, user_id, host(address) as address, sum(count)::int as requests, count(*)::int as rows
      from pat.events where event = 'refused' and address = '192.0.2.9'
      group by 1, 2, 3, 4, 5 order by requests, detail`);
    await eventually(async () => (await events()).reduce((sum, { requests }) => sum + requests, 0) >= 500);
    await sleep(1500); // what is written is not written again
    const intervals = intervalsSince(beganAt);
    const found = await events();
    const refused = { event: 'refused', address: '192.0.2.9' };
    assert.deepEqual(found.map(({ rows: _, ...event }) => event), [
      { ...refused, detail: 'malformed_token', key_id: null, user_id: null, requests: 100 },
      { ...refused, detail: 'revoked', key_id: dead.id, user_id: BOB, requests: 100 },
      { ...refused, detail: 'unknown_token', key_id: null, user_id: null, requests: 100 },
      { ...refused, detail: 'revoked', key_id: id, user_id: ALICE, requests: 200 },
    ]);
    for (const { rows } of found) assert.ok(rows <= intervals, `${rows} rows in ${intervals} intervals`);

    for (const [user, key, count] of [[ALICE, id, 200], [BOB, dead.id, 100]]) {
      const login = await world.login(user);
      const { data } = await world.ask('GET', `/api_key_events?event=eq.refused&address=eq.192.0.2.9`, { token: login });
      const kinds = new Set(data.map((event) => `${event.key_id} ${event.user_id} ${event.detail}`));
      assert.deepEqual(kinds, new Set([`${key} ${user} revoked`]));
      assert.equal(data.reduce((sum, event) => sum + event.count, 0), count);
    }
    assert.equal((await world.ask('GET', '/api_key_events')).data.code, '42501');
  });
});

describe('the next pre-request function', () => {
  let world;
  let senders;
  before(async () => {
    world = await open({
      settings: { 'supabase_pat.next_pre_request': 'public.check_plan' },
      sql: `create function check_plan() returns void language plpgsql as $$
        begin
          if current_setting('request.headers')::json ->> 'x-plan' = 'free' then
            raise sqlstate 'PT402' using message = 'payment required', detail = 'the plan is free', hint = 'upgrade';
          end if;
          perform set_config('app.seen', concat_ws(' ', current_user, auth.uid()), true);
        end
        $$;`,
    });
    senders = [
      [{}, 'anon'],
      [{ token: await world.serviceKey() }, 'service_role'],
      [{ token: await world.login(BOB) }, `authenticated ${BOB}`],
      [(await world.mint(ALICE)).send, `authenticated ${ALICE}`],
      [(await world.mint(ALICE, { kind: 'opaque' })).send, `authenticated ${ALICE}`],
    ];
  });
  after(() => world.close());

  test('runs as whoever the gate has made the request', async () => {
    for (const [send, seen] of senders) {
      const { status, data } = await world.ask('GET', '/rpc/whoami', send);
      assert.deepEqual([status, data.seen], [200, seen]);
    }
  });

  test('answers 402, unchanged, and nothing is written', async () => {
    for (const [send] of senders) {
      await refusing(world, { ...send, headers: { ...send.headers, 'x-plan': 'free' } }, ({ status, data }) => {
        assert.deepEqual([status, data], [402, body('PT402', 'payment required', 'upgrade', 'the plan is free')]);
      });
    }
  });

  test('does not run for a request that the gate refuses', async () => {
    const answer = await world.ask('GET', '/todos', { headers: { 'x-plan': 'free', 'x-api-key': 'sbpat_x' } });
    assert.equal(answer.status, 401);
  });

  test('lets nothing pass with 500 while it is missing', async () => {
    await world.rows('alter function check_plan() rename to mislaid');
    try {
      for (const [send] of senders) {
        await refusing(world, send, ({ status, data }) => {
          assert.deepEqual([status, data], [500, body('55000',
            'supabase_pat.next_pre_request is public.check_plan, and there is no such function without arguments',
            'pat.gate() lets nothing through until it can call it: see pat.status().')]);
        });
      }
    } finally {
      await world.rows('alter function mislaid() rename to check_plan');
    }
    assert.equal((await world.ask('GET', '/rpc/whoami')).data.seen, 'anon');
  });
});
