// Where requests come from, when keys were last used, and what was refused, as the gate notes it.
import assert from 'node:assert/strict';
import { createServer, request as httpRequest } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ALICE, BOB } from './fixture.mjs';
import {
  KINDS, OTHER_ADDRESS, UNKNOWN_TOKEN, ask, assertRefused, eventually, many, open, refusing, sending,
  titlesOf,
} from './gate_world.mjs';

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

  test('a token that gives itself longer and longer windows has no request more', async () => {
    for (const kind of KINDS) {
      const { id, send } = await world.mint(ALICE, { kind, limit: 3, window: '1 day' });
      const edit = (window) => world.ask('POST', '/rpc/edit_pat', { ...send, body: { id, rate_window: `${window} seconds` } });
      // Each window would have begun a moment ago, counted from 1970.
      const now = Math.floor(Date.now() / 1000);
      const windows = Math.floor(now / 86400);
      const answers = [];
      for (let n = 1; n <= 12; n += 1) answers.push((await edit(Math.floor(now / (windows - n)))).status);
      // Midnight may be among them.
      assert.ok([3, 6].includes(answers.filter((status) => status === 204).length), answers.join());
      assert.equal(answers.at(-1), 429);
    }
  });

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
