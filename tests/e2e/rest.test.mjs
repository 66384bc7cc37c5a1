// Personal access tokens through a real REST server, with the roles of Supabase and with others: where the guard judges
// requests, which is how the extension starts, and where policies alone do.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { decodeProtectedHeader, jwtVerify } from 'jose';
import { ALICE, BOB, OTHER_ROLES, ROLES, SECRET, sign, start } from './fixture.mjs';

/** For 42501, PostgREST answers a user with 403 and anon with 401; postrust answers both with 401. */
function assertForbidden({ status, data }) {
  assert.equal(data.code, '42501', JSON.stringify(data));
  assert.ok(status === 403 || status === 401, `status ${status}`);
}

const REVOKED = 'the personal access token has been revoked';
const UNKNOWN = 'there is no such personal access token';

for (const [roles, isGuarded] of [[ROLES, true], [OTHER_ROLES, true], [ROLES, false]]) {
  describe(`as ${roles.authenticated}, ${isGuarded ? 'with the guard' : 'by policies alone'}`, () => {
    let world;
    let alice;
    let bob;
    before(async () => {
      const guard = isGuarded ? {} : { 'supabase_pat.guarded_logins': '' };
      world = await start({ roles, settings: { log_statement: 'all', log_min_messages: 'debug1', ...guard } });
      [alice, bob] = [await world.login(ALICE), await world.login(BOB)];
    });
    after(() => world.stop());

    const mint = async (token, body) => {
      const answer = await world.request('POST', '/rpc/mint_pat', { token, body });
      assert.equal(answer.status, 200, JSON.stringify(answer.data));
      return answer.data;
    };
    const titles = async (token) => {
      const { status, data } = await world.request('GET', '/todos?select=title&order=id', { token });
      assert.equal(status, 200);
      return data.map((todo) => todo.title);
    };

    /** The guard says why a token does not count. Without it policies refuse what is written, and show nothing. */
    const assertRefused = (answer, why) => {
      const { status, data } = answer;
      if (isGuarded) assert.deepEqual([status, data.code, data.message], [401, 'PT401', why]);
      else assertForbidden(answer);
    };
    const assertDead = async (token, why) => {
      if (isGuarded) assertRefused(await world.request('GET', '/todos', { token }), why);
      else assert.deepEqual(await titles(token), []);
    };

    test('a token is minted, used, listed and revoked', async () => {
      const minted = await mint(alice, { name: 'zapier' });
      assert.deepEqual(Object.keys(minted).sort(), ['expires_at', 'id', 'name', 'token']);

      const { token } = minted;
      assert.deepEqual(await titles(token), ['alice 1', 'alice 2']);
      const inserted = await world.request('POST', '/todos', { token, body: { title: 'by zapier' } });
      assert.equal(inserted.status, 201);
      assert.deepEqual(await titles(alice), ['alice 1', 'alice 2', 'by zapier']);
      const forged = await world.request('POST', '/todos', { token, body: { title: 'x', user_id: BOB } });
      assertForbidden(forged);
      const others = await mint(bob, { name: 'bob' });

      const keys = await world.request('GET', '/api_keys?select=id,name,is_active,hint', { token: alice });
      assert.deepEqual(keys.data, [{ id: minted.id, name: 'zapier', is_active: true, hint: token.slice(-6) }]);
      const revoked = await world.request('POST', '/rpc/revoke_pat', { token: alice, body: { id: minted.id } });
      assert.deepEqual(revoked, { status: 200, data: true });

      await assertDead(token, REVOKED);
      const refused = await world.request('POST', '/todos', { token, body: { title: 'too late' } });
      assertRefused(refused, REVOKED);
      assert.deepEqual(await titles(others.token), ['bob 1']);
      assert.deepEqual(await titles(alice), ['alice 1', 'alice 2', 'by zapier']);
    });

    test('another implementation verifies the token, and its claims are as documented', async () => {
      const before = Math.floor(Date.now() / 1000);
      const { token, id, expires_at: expiresAt } = await mint(alice, { name: 'x', scopes: ['todos:read', 'notes:*'] });
      const { payload } = await jwtVerify(token, new TextEncoder().encode(SECRET), { audience: 'authenticated' });
      assert.deepEqual(decodeProtectedHeader(token), { alg: 'HS256', typ: 'JWT' });
      const { iat, exp, ...claims } = payload;
      assert.deepEqual(claims, {
        aud: 'authenticated', role: roles.authenticated, iss: 'supabase_pat', sub: ALICE, jti: id,
        type: 'personal_access_token', session_id: id, scope: 'todos:read notes:*', is_anonymous: false,
      });
      assert.ok(iat >= before && iat <= before + 5);
      assert.equal(exp - iat, 365 * 86400);
      assert.equal(Date.parse(expiresAt) / 1000, exp);
    });

    test('is_valid_api_token() answers GET and POST, also in a read-only transaction', async () => {
      const { token, id } = await mint(alice, { name: 'x' });
      for (const method of ['GET', 'POST']) {
        const body = method === 'POST' ? {} : undefined;
        assert.equal((await world.request(method, '/rpc/is_valid_api_token', { token, body })).data, true);
        assert.equal((await world.request(method, '/rpc/current_api_key_id', { token, body })).data, id);
        assert.equal((await world.request(method, '/rpc/is_valid_api_token', { body })).data, true);
      }
    });

    test('deleting a row of api_keys revokes its token', async () => {
      const { token, id } = await mint(alice, { name: 'x' });
      const others = await mint(bob, { name: 'x' });
      await world.request('DELETE', `/api_keys?id=in.(${id},${others.id})`, { token: alice });
      await assertDead(token, UNKNOWN);
      assert.deepEqual(await titles(others.token), ['bob 1']);
    });

    test('a rotated token is replaced at once', async () => {
      const old = await mint(alice, { name: 'ci', expires_in: '1 day' });
      const { status, data } = await world.request('POST', '/rpc/rotate_pat', { token: alice, body: { id: old.id } });
      assert.equal(status, 200);
      assert.equal(data.name, 'ci');
      await assertDead(old.token, REVOKED);
      assert.equal((await titles(data.token)).length > 0, true);
    });

    test('nobody mints for another, with a token, or without logging in', async () => {
      const { token, id } = await mint(alice, { name: 'x' });
      for (const [who, path, body] of [
        [alice, '/rpc/mint_pat', { name: 'x', user_id: BOB }],
        [alice, '/rpc/mint_pat', { name: 'x', user_id: randomUUID() }],
        [token, '/rpc/mint_pat', { name: 'x' }],
        [token, '/rpc/rotate_pat', { id }],
        [undefined, '/rpc/mint_pat', { name: 'x' }],
        [undefined, '/rpc/revoke_pat', { id }],
        [alice, '/rpc/revoke_all_pats', { user_id: BOB }],
      ]) {
        assertForbidden(await world.request('POST', path, { token: who, body }));
      }
      const rotated = await world.request('POST', '/rpc/rotate_pat', { token: bob, body: { id } });
      assert.deepEqual([rotated.status, rotated.data.code], [400, '42704']);
      assert.equal((await world.request('POST', '/rpc/revoke_pat', { token: bob, body: { id } })).data, false);
      assert.deepEqual(await titles(token), await titles(alice));
    });

    test('the service role mints for anyone who exists', async () => {
      const service = await world.serviceKey();
      const { token } = await mint(service, { user_id: BOB, name: 'by the backend' });
      assert.deepEqual(await titles(token), ['bob 1']);
      const answer = await world.request('POST', '/rpc/mint_pat', {
        token: service, body: { user_id: randomUUID(), name: 'x' },
      });
      assert.equal(answer.status, 409);
      assert.equal(answer.data.code, '23503');
      const keys = await world.request('GET', '/api_keys?select=user_id', { token: service });
      assert.deepEqual(new Set(keys.data.map((key) => key.user_id)), new Set([ALICE, BOB]));
    });

    test('bad input is answered with 400 and says what is wrong', async () => {
      for (const [body, code, message] of [
        [{ name: ' ' }, '22023', 'the name of a token must not be empty'],
        [{}, '22004', 'name must not be null'],
        [{ name: 'x', expires_in: '-1 day' }, '22023', 'expires_in must be at least one second'],
        [{ name: 'x', scopes: ['todos'] }, '22023', '"todos" is not a scope'],
      ]) {
        const { status, data } = await world.request('POST', '/rpc/mint_pat', { token: alice, body });
        assert.deepEqual([status, data.code, data.message], [400, code, message]);
      }
    });

    test('a token that was cut, changed, or signed with another secret is refused', async () => {
      const { token } = await mint(alice, { name: 'x' });
      const [header, payload, signature] = token.split('.');
      const claims = JSON.parse(Buffer.from(payload, 'base64url'));
      const forBob = Buffer.from(JSON.stringify({ ...claims, sub: BOB })).toString('base64url');
      const none = Buffer.from('{"alg":"none","typ":"JWT"}').toString('base64url');
      for (const bad of [
        token.slice(0, -1), `${header}.${payload}`, `${header}.${payload}.`, token + token,
        `${header}.${forBob}.${signature}`, `${none}.${payload}.`,
        await sign(claims, { secret: 'another-secret-of-more-than-32-bytes' }),
      ]) {
        assert.equal((await world.request('GET', '/todos', { token: bad })).status, 401, bad);
      }
      // Signed by a stranger who has the secret, but for a key that does not exist, or of another.
      await assertDead(await sign({ ...claims, jti: randomUUID() }), UNKNOWN);
      await assertDead(await sign({ ...claims, sub: BOB }), UNKNOWN);
    });

    test('an expired token gets 401', async () => {
      const { token } = await mint(alice, { name: 'x', expires_in: '1 second' });
      await new Promise((resolve) => setTimeout(resolve, 2100));
      assert.equal((await world.request('GET', '/todos', { token })).status, 401);
    });

    test('a user who is banned or deleted loses the tokens at once', async () => {
      const { token } = await mint(bob, { name: 'x' });
      world.cluster.psql('postgres', `update auth.users set banned_until = 'infinity' where id = '${BOB}'`);
      await assertDead(token, 'the user of the personal access token is banned');
      assertRefused(await world.request('POST', '/rpc/mint_pat', { token: bob, body: { name: 'x' } }), 'the session of this login has ended');
      world.cluster.psql('postgres', `update auth.users set banned_until = null where id = '${BOB}'`);
      assert.deepEqual(await titles(token), ['bob 1']);
      world.cluster.psql('postgres', `update auth.users set deleted_at = now() where id = '${BOB}'`);
      await assertDead(token, 'the user of the personal access token no longer exists');
      world.cluster.psql('postgres', `update auth.users set deleted_at = null where id = '${BOB}'`);
    });

    test('neither the secret nor a new token is in the log of Postgres', async () => {
      // Once it is used it is there: the REST server sends the headers of a request as a setting.
      const { token } = await mint(alice, { name: 'in the log' });
      const log = readFileSync(world.cluster.log, 'utf8');
      assert.ok(log.includes('in the log'), 'statements are logged');
      assert.ok(!log.includes(SECRET), 'the secret');
      assert.ok(!log.includes(token.split('.')[2]), 'the token');
    });
  });
}

test('requests that share connections do not share answers', async () => {
  const world = await start({ connections: 2 });
  try {
    const tokens = {};
    for (const [name, user] of [['alice', ALICE], ['bob', BOB]]) {
      const login = await world.login(user);
      const mint = (body) => world.request('POST', '/rpc/mint_pat', { token: login, body });
      const [live, dead] = [(await mint({ name: 'live' })).data, (await mint({ name: 'dead' })).data];
      await world.request('POST', '/rpc/revoke_pat', { token: login, body: { id: dead.id } });
      tokens[name] = { login, live: live.token, dead: dead.token };
    }
    const cases = [
      [tokens.alice.login, ['alice 1', 'alice 2']], [tokens.alice.live, ['alice 1', 'alice 2']], [tokens.alice.dead, REVOKED],
      [tokens.bob.login, ['bob 1']], [tokens.bob.live, ['bob 1']], [tokens.bob.dead, REVOKED], [undefined, []],
    ];
    let done = 0;
    await Promise.all(Array.from({ length: 20 }, async (_, worker) => {
      for (let i = 0; i < 100; i += 1) {
        const [token, expected] = cases[(i * 5 + worker * 3) % cases.length];
        const { status, data } = await world.request('GET', '/todos?select=title&order=id', { token });
        assert.equal(status, expected === REVOKED ? 401 : 200);
        assert.deepEqual(status === 200 ? data.map((todo) => todo.title) : data.message, expected);
        done += 1;
      }
    }));
    assert.equal(done, 2000);
  } finally {
    world.stop();
  }
});
