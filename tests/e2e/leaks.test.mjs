// Tokens that leaked: anybody reports them through a real REST server; many report the same ones at once; and a scanner
// finds them.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { ALICE, BOB } from './fixture.mjs';
import { REVOKED, assertRefused, open, titlesOf } from './gate_world.mjs';

const TODOS = `truncate todos; insert into todos (user_id, title) values ('${ALICE}', 'alice 1'), ('${BOB}', 'bob 1');`;

for (const road of ['guard', 'gate']) {
  describe(`reports of leaked tokens, behind the ${road}`, () => {
    let world;
    before(async () => {
      world = await open({ road, sql: TODOS, settings: { 'supabase_pat.enable_leak_reports': 'on', 'supabase_pat.trusted_proxies': 1 } });
    });
    after(() => world.close());
    const report = (tokens, { from = '192.0.2.1', ...options } = {}) => world.ask('POST', '/rpc/report_leaked_tokens', {
      ...options, headers: { 'x-forwarded-for': from, ...options.headers }, body: { tokens, found_at: 'https://example.com/leak' },
    });

    test('a stranger reports tokens of both kinds, and the next request with them is refused', async () => {
      const [jwt, opaque, other] = [await world.mint(ALICE), await world.mint(BOB, { kind: 'opaque' }), await world.mint(BOB)];
      for (const { send } of [jwt, opaque, other]) assert.equal((await world.ask('GET', '/todos', send)).status, 200);
      const answer = await report([jwt.token, opaque.token, 'somebody else\'s']);
      assert.ok([200, 204].includes(answer.status), JSON.stringify(answer.data));
      for (const { send } of [jwt, opaque]) assertRefused(await world.ask('GET', '/todos', send), REVOKED);
      assert.deepEqual(titlesOf(await world.ask('GET', '/todos', other.send)), ['bob 1']);
      // What is known, what is dead and what is nothing is answered alike.
      for (const tokens of [[jwt.token], ['nothing'], []]) {
        const again = await report(tokens);
        assert.deepEqual([again.status, again.data], [answer.status, answer.data]);
      }
      const seen = await world.ask('GET', '/api_key_events?event=eq.token_leaked&select=role,address,detail', { token: await world.login(ALICE) });
      assert.deepEqual(seen.data, [{ role: 'anon', address: '192.0.2.1', detail: 'https://example.com/leak' }]);
    });

    test('a token reports itself, and ends with its own request', async () => {
      const token = await world.mint(ALICE, { kind: 'opaque' });
      const answer = await report([token.token], { headers: token.send.headers });
      assert.ok(answer.status < 300, JSON.stringify(answer.data));
      assertRefused(await world.ask('GET', '/todos', token.send), REVOKED);
    });

    test('a key of the service role is denied by whoever shows it, and the key of the anonymous role is not', async () => {
      const key = (role) => world.value('select pat.mint_api_key($1)', [role]);
      const [service, anon] = [await key('service_role'), await key('anon')];
      assert.equal((await world.ask('GET', '/todos', { token: service })).status, 200);
      assert.ok((await report([service, anon], { token: anon })).status < 300);
      assert.equal((await world.ask('GET', '/todos', { token: service })).status, 401);
      assert.equal((await world.ask('GET', '/todos', { token: anon })).status, 200);
      await world.rows('delete from pat.denied_tokens');
    });

    test('whoever guesses has used up a budget, which does not keep others from reporting', async () => {
      const guesses = Array.from({ length: 100 }, (_, n) => `a guess ${n}`);
      const statuses = [];
      for (let i = 0; i < 4; i += 1) statuses.push((await report(guesses, { from: '198.51.100.1' })).status);
      assert.deepEqual(statuses.map((status) => status < 300), [true, true, true, false]);
      assert.equal(statuses[3], 429);
      const token = await world.mint(ALICE);
      assert.equal((await report([token.token], { from: '198.51.100.1' })).status, 429);
      assert.equal((await world.ask('GET', '/todos', token.send)).status, 200);
      assert.ok((await report([token.token], { from: '198.51.100.2' })).status < 300);
      assertRefused(await world.ask('GET', '/todos', token.send), REVOKED);
    });
  });
}

describe('many reports at once', () => {
  let world;
  before(async () => { world = await open({ settings: { 'supabase_pat.enable_leak_reports': 'on', max_connections: 60 } }); });
  after(() => world.close());

  test('of the same tokens in any order, while others mint and revoke, end in no deadlock, and each token is reported once', async () => {
    await world.rows(`insert into auth.users (id, email) select gen_random_uuid(), 'u' || n || '@example.com' from generate_series(1, 12) n`);
    const users = (await world.rows(`select id from auth.users`)).map(({ id }) => id);
    const shuffled = (list) => list.map((item) => [Math.random(), item]).sort(([a], [b]) => a - b).map(([, item]) => item);
    const clients = await Promise.all(Array.from({ length: 12 }, () => world.cluster.connect('postgres')));
    try {
      for (let round = 0; round < 8; round += 1) {
        const tokens = (await world.rows(`select token from unnest($1::uuid[]) u, generate_series(1, 4) n,
          mint_pat(u, 'leaked', kind => case n % 2 when 0 then 'jwt' else 'opaque' end)`, [users])).map(({ token }) => token);
        const keys = (await world.rows(`select pat.mint_api_key('service_role', 'r' || n || 'x${round}') as key from generate_series(1, 5) n`)).map(({ key }) => key);
        const reports = clients.slice(0, 8).map((client) => client.query('select report_leaked_tokens($1)', [shuffled([...tokens, ...keys])]));
        const others = clients.slice(8).map(async (client) => {
          for (const user of shuffled(users)) {
            await client.query(`select mint_pat($1, 'other', '1 hour')`, [user]);
            if (Math.random() < 0.5) await client.query('select revoke_all_pats($1)', [user]);
          }
        });
        await Promise.all([...reports, ...others]);
        assert.equal(await world.value(`select count(*)::int from pat.api_keys where name = 'leaked' and revoked_at is null`), 0);
        assert.equal(await world.value(`select count(*)::int from pat.denied_tokens`), 5 * (round + 1));
        await world.rows('select revoke_all_pats(id) from auth.users');
      }
      const twice = `select key_id from pat.events where event = 'token_leaked' and key_id is not null group by key_id having count(*) > 1`;
      assert.deepEqual(await world.rows(twice), []);
    } finally {
      await Promise.all(clients.map((client) => client.end()));
    }
  });
});

describe('the rule for gitleaks', () => {
  const file = readFileSync(new URL('../../packaging/gitleaks.toml', import.meta.url), 'utf8');
  const [, source] = file.match(/^regex = '''(.*)'''$/m);
  const [, keyword] = file.match(/^keywords = \["(.*)"\]$/m);
  const find = (text) => (text.includes(keyword) ? [...text.matchAll(new RegExp(source, 'gm'))].map(([, secret]) => secret) : []);
  let world;
  before(async () => { world = await open(); });
  after(() => world.close());

  test('finds the tokens that are minted, wherever they stand, and nothing that is shorter or longer', async () => {
    const { token } = await world.mint(ALICE, { kind: 'opaque' });
    for (const text of [
      token, `PAT=${token}`, `"${token}"`, `{"x-api-key":"${token}"}`, `-H 'x-api-key: ${token}' https://example.com`,
      `https://example.com/?key=${token}&page=1`, `a\n${token}\nb`, `Bearer ${token}.`,
      // As they stand in JSON, in addresses and in the colours of a terminal.
      `"a\\n${token}\\n"`, `Bearer%20${token}`, `\u001b[1m${token}\u001b[0m`,
    ]) assert.deepEqual(find(text), [token], text);
    // Each of a list, whatever stands between them.
    for (const between of [',', ' ', '\n', '|']) assert.deepEqual(find([token, token, token].join(between)), [token, token, token]);
    for (const text of [token.slice(0, -1), `${token}0`, token.replace('sbpat', 'sbpit'), token.slice(6), `sbpat_${'-'.repeat(42)}`, 'sbpat_']) {
      assert.deepEqual(find(text), [], text);
    }
  });

  test('is written in what gitleaks understands: Go has no look-around and no back-references', () => {
    assert.doesNotMatch(source, /\(\?[=!<]|\\[1-9]/);
    assert.equal(file.match(/^secretGroup = (\d+)$/m)[1], '1');
    assert.match(file, /^\[\[rules\]\]\nid = "supabase-pat"$/m);
  });
});
