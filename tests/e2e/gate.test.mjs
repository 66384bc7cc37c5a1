// The gate, pat.gate(), before every request to a real REST server.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, beforeEach, describe, test } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import { ALICE, BOB, sign } from './fixture.mjs';
import {
  ADDRESS_UNKNOWN, DENIED, INCOMPLETE, KINDS, MONTH, REQUESTS, REVOKED, SESSION_ENDED, UNKNOWN,
  UNKNOWN_TOKEN, assertRefused, body, lacks, many, open, refusing, sending, titlesOf,
} from './gate_world.mjs';

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
        assert.deepEqual(data, body('PT429', `the personal access token has used up its 2 requests in ${MONTH} seconds`,
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
  const world = await open({ connections: 2 });
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
            'pat.gate() refuses every request until it can call that function: see pat.status().')]);
        });
      }
    } finally {
      await world.rows('alter function mislaid() rename to check_plan');
    }
    assert.equal((await world.ask('GET', '/rpc/whoami')).data.seen, 'anon');
  });
});
