// The gate with many connections at once: limits are exact, and what is denied is denied on all of them.
import assert from 'node:assert/strict';
import { Agent } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ALICE, BOB } from './fixture.mjs';
import {
  DENIED, assertRefused, body, eventually, many, open, refusing,
} from './gate_world.mjs';

describe('with many connections', () => {
  const CONNECTIONS = 50;
  let world;
  before(async () => { world = await open({ connections: CONNECTIONS + 4 }); });
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
      // More than a limit would let through, however slow the machine is.
      while (!isOver || answers.length <= LIMIT) {
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
