// How many requests each token made on which day, and how many were refused: exactly, and never too many, whatever
// becomes of those who count and write.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster } from '../cluster/cluster.mjs';
import { Installation, installed } from '../cluster/installation.mjs';
import { ALICE, BOB, SECRET } from './fixture.mjs';
import { KINDS, eventually, many, open, titlesOf } from './gate_world.mjs';
import { current, frozen, upgrades } from './releases.mjs';

const today = () => new Date().toISOString().slice(0, 10);

describe('through the REST server', () => {
  let world;
  before(async () => { world = await open({ settings: { 'supabase_pat.max_keys_per_user': 1000 } }); });
  after(() => world.close());

  /** What is in the table for these tokens, added up over the days: midnight may be among them. */
  const counted = async (ids) => {
    const rows = await world.rows(`
      select key_id, sum(requests)::int as requests, sum(refused)::int as refused from pat.usage_by_day
      where key_id = any ($1) group by key_id`, [ids]);
    return ids.map((id) => {
      const { requests, refused } = rows.find(({ key_id: key }) => key === id) ?? { requests: 0, refused: 0 };
      return [requests, refused];
    });
  };
  /** Waits for these counts, and sees that they stay. */
  const assertCounted = async (ids, expected) => {
    let found;
    try {
      await eventually(async () => {
        found = await counted(ids);
        return JSON.stringify(found) === JSON.stringify(expected);
      }, 8);
    } catch { /* the assertion tells more */ }
    assert.deepEqual(found, expected);
    await sleep(1500);
    assert.deepEqual(await counted(ids), expected);
  };

  test('each request and each refusal counts once, reading or writing, whatever comes at once', async () => {
    const first = today();
    const tokens = {};
    for (const kind of KINDS) {
      tokens[`reading ${kind}`] = await world.mint(ALICE, { kind });
      tokens[`limited ${kind}`] = await world.mint(ALICE, { kind, limit: 5 });
      tokens[`narrow ${kind}`] = await world.mint(ALICE, { kind, scopes: ['todos:read'] });
      tokens[`elsewhere ${kind}`] = await world.mint(ALICE, { kind, allowedIps: ['192.0.2.0/24'] });
      tokens[`dead ${kind}`] = await world.mint(ALICE, { kind });
      tokens[`unused ${kind}`] = await world.mint(ALICE, { kind });
    }
    const dead = Object.entries(tokens).filter(([name]) => name.startsWith('dead')).map(([, { id }]) => id);
    await world.rows('update pat.api_keys set revoked_at = now() where id = any ($1)', [dead]);
    const requests = [];
    const add = (count, name, method, path, body, status) => {
      for (let n = 0; n < count; n += 1) requests.push({ name, method, path, body, status });
    };
    for (const kind of KINDS) {
      add(150, `reading ${kind}`, 'GET', '/todos', undefined, 200);
      add(50, `reading ${kind}`, 'POST', '/todos', { title: 'new' }, 201);
      // Of a request that fails, the database takes everything back but the count.
      add(20, `reading ${kind}`, 'POST', '/todos', { title: null }, 400);
      add(12, `limited ${kind}`, 'GET', '/todos', undefined, null);
      add(10, `narrow ${kind}`, 'GET', '/todos', undefined, 200);
      add(11, `narrow ${kind}`, 'POST', '/todos', { title: 'no' }, 403);
      add(7, `elsewhere ${kind}`, 'GET', '/todos', undefined, 403);
      add(9, `dead ${kind}`, 'GET', '/todos', undefined, 401);
    }
    for (let place = requests.length - 1; place > 0; place -= 1) {
      const other = Math.floor(Math.random() * (place + 1));
      [requests[place], requests[other]] = [requests[other], requests[place]];
    }
    await many(requests.length, 20, async (n) => {
      const { name, method, path, body, status } = requests[n];
      const answer = await world.ask(method, path, { ...tokens[name].send, body });
      if (status !== null) assert.equal(answer.status, status, `${name}: ${JSON.stringify(answer.data)}`);
    });
    const names = Object.keys(tokens);
    const expected = {
      reading: [220, 0], limited: [5, 7], narrow: [10, 11], elsewhere: [0, 7], dead: [0, 9], unused: [0, 0],
    };
    await assertCounted(names.map((name) => tokens[name].id), names.map((name) => expected[name.split(' ')[0]]));
    const days = await world.value('select array_agg(distinct day::text) from pat.usage_by_day');
    for (const day of days) assert.ok([first, today()].includes(day), day);
    // Whoever was only refused has not been used.
    assert.equal(await world.value('select last_used_at from api_keys where id = $1', [dead[0]]), null);

    // Alice sees her own, by a login and by a token that may see tokens; nobody else sees them.
    const select = '/api_key_daily_usage?select=key_id,name,requests,refused';
    const of = async (send) => world.ask('GET', select, send);
    const alices = await of({ token: await world.login(ALICE) });
    assert.equal(alices.status, 200);
    const sum = (key) => alices.data.filter((row) => row.key_id === key).reduce((all, row) => all + row.requests, 0);
    for (const name of names) assert.equal(sum(tokens[name].id), expected[name.split(' ')[0]][0], name);
    assert.deepEqual(new Set(alices.data.map((row) => row.name)), new Set(['test']));
    assert.deepEqual((await of({ token: await world.login(BOB) })).data, []);
    assert.equal((await of({})).data.code, '42501');
    assert.equal((await of(tokens['narrow jwt'].send)).status, 403);
    const seeing = await world.mint(ALICE, { scopes: ['tokens:read'] });
    assert.ok((await of(seeing.send)).data.length >= 10);
  });

  test('refusals of many tokens of one user within an interval are told apart', async () => {
    const tokens = await world.rows(`select id, token from generate_series(1, 60) n, mint_pat(user_id => $1, name => 'one of many: ' || n, kind => 'opaque')`, [BOB]);
    const ids = tokens.map(({ id }) => id);
    await world.rows('update pat.api_keys set revoked_at = now() where id = any ($1)', [ids]);
    await many(240, 40, async (n) => {
      const { status } = await world.ask('GET', '/todos', { headers: { 'x-api-key': tokens[n % 60].token } });
      assert.equal(status, 401);
    });
    await assertCounted(ids, ids.map(() => [0, 4]));
  });

  test('another service that asks what a token is worth has used it', async () => {
    const { id, token } = await world.mint(ALICE);
    await world.rows('select introspect_token($1)', [token]);
    await assertCounted([id], [[1, 0]]);
  });

  test('what a deleted token has counted stays with its user, and without its name', async () => {
    const { id, send } = await world.mint(ALICE);
    for (let n = 0; n < 3; n += 1) titlesOf(await world.ask('GET', '/todos', send));
    await assertCounted([id], [[3, 0]]);
    const token = await world.login(ALICE);
    assert.ok((await world.ask('DELETE', `/api_keys?id=eq.${id}`, { token })).status < 300);
    // A sweep goes with what is written.
    await eventually(async () => {
      titlesOf(await world.ask('GET', '/todos', (await world.mint(ALICE)).send));
      return await world.value('select count(*)::int from pat.api_key_usage where key_id = $1', [id]) === 0;
    }, 20);
    assert.deepEqual(await counted([id]), [[3, 0]]);
    const { data } = await world.ask('GET', `/api_key_daily_usage?key_id=eq.${id}&select=name,requests`, { token });
    assert.deepEqual(data, [{ name: null, requests: 3 }]);
  });
});

const SETTINGS = {
  shared_preload_libraries: 'supabase_pat',
  'supabase_pat.jwt_secret': SECRET,
  'supabase_pat.flush_interval': '1',
};
const SETUP = `
  select pat.install_auth_schema();
  insert into auth.users (id, email) values ('${ALICE}', 'alice@example.com');
  create schema tests;
  grant usage on schema tests to public;
  create function tests.pass(key uuid) returns text language plpgsql as $$
  begin
    perform set_config('request.method', 'GET', true), set_config('request.path', '/todos', true),
      set_config('request.headers', '{}', true), set_config('role', 'authenticated', true),
      set_config('request.jwt.claims', jsonb_build_object('role', 'authenticated', 'sub', '${ALICE}',
        'type', 'personal_access_token', 'jti', key)::text, true);
    perform pat.gate();
    return 'passed';
  exception when others then
    return sqlerrm;
  end
  $$;
`;

describe('the worker', () => {
  let cluster;
  before(async () => {
    cluster = await Cluster.start({ settings: SETTINGS });
    cluster.psql('postgres', `create extension supabase_pat; ${SETUP}`);
  });
  after(() => cluster.stop());

  const sql = (statement) => cluster.psql('postgres', statement);
  const mint = () => sql(`select id from mint_pat('${ALICE}', 'test')`);
  const pass = (key, times = 1) => sql(`select count(*) from generate_series(1, ${times}) where tests.pass('${key}') = 'passed'`);
  /** Days from today, each with its counts. */
  const days = (key) => sql(`select string_agg(day - (now() at time zone 'UTC')::date || ':' || requests || '/' || refused, ' ' order by day)
    from pat.usage_by_day where key_id = '${key}'`);
  const total = (key) => Number(sql(`select coalesce(sum(requests), 0) from pat.usage_by_day where key_id = '${key}'`));
  const until = async (condition, what, seconds = 15) => {
    try {
      return await eventually(async () => {
        try {
          return await condition();
        } catch (error) {
          if (/starting up|shutting down|recovery|refused|No such file|terminat|closed/.test(error.message)) return false;
          throw error;
        }
      }, seconds);
    } catch (error) {
      throw new Error(`not yet: ${what}`, { cause: error });
    }
  };
  const processOf = (type) => Number(sql(`select pid from pg_stat_activity where backend_type = 'supabase_pat ${type}' limit 1`));

  // The row is made that of another day, since a test cannot wait for midnight.
  test('moves a day that is over to the others, and adds what comes late to its own day', async () => {
    const [one, two] = [mint(), mint()];
    pass(one, 3);
    pass(two, 2);
    await until(() => days(one) === '0:3/0' && days(two) === '0:2/0', 'the first counts');
    sql(`update pat.api_key_usage set day = day - 1 where key_id = '${one}'; update pat.api_key_usage set day = day + 1 where key_id = '${two}'`);
    assert.equal(sql('select count(*) from pat.api_key_days'), '0');
    pass(one, 4);
    pass(two, 5);
    await until(() => days(one) === '-1:3/0 0:4/0' && days(two) === '0:5/0 1:2/0', 'two days each');
    // Once more on the day that is there, and on the one that has moved.
    pass(one, 1);
    pass(two, 1);
    await until(() => days(one) === '-1:3/0 0:5/0' && days(two) === '0:6/0 1:2/0', 'more of the same days');
    assert.equal(sql(`select string_agg(case key_id when '${one}' then 'one' else 'two' end, ' ' order by day) from pat.api_key_days`), 'one two');
    // The day of its last use is not changed by what is late.
    assert.equal(sql(`select (last_used_at at time zone 'UTC')::date - (now() at time zone 'UTC')::date from pat.api_key_usage where key_id = '${two}'`), '0');
  });

  test('keeps days for supabase_pat.usage_retention, the latest one of an unused token too', async () => {
    const [old, young] = [mint(), mint()];
    pass(old);
    pass(young);
    await until(() => days(old) === '0:1/0' && days(young) === '0:1/0', 'the counts');
    sql(`insert into pat.api_key_days select (now() at time zone 'UTC')::date - n, '${old}', '${ALICE}', n, 0 from unnest('{399,402,900}'::int[]) n;
      update pat.api_key_usage set day = day - 500 where key_id = '${old}'`);
    assert.equal(days(old), '-900:900/0 -500:1/0 -402:402/0 -399:399/0');
    await until(() => { pass(young); return days(old) === '-399:399/0'; }, 'a sweep');
    assert.notEqual(sql(`select last_used_at from api_keys where id = '${old}'`), '', 'its last use stays');
    pass(old);
    await until(() => days(old) === '-399:399/0 0:1/0', 'a new day');
    sql(`alter database postgres set supabase_pat.usage_retention = 0;
      insert into pat.api_key_days values ((now() at time zone 'UTC')::date - 2000, '${old}', '${ALICE}', 1, 0)`);
    const now = total(young);
    pass(young);
    await until(() => total(young) === now + 1, 'another flush');
    await sleep(1200);
    assert.match(days(old), /^-2000:1\/0 /);
    sql('alter database postgres reset supabase_pat.usage_retention');
  });

  /** Calls the gate from four connections until it is stopped, and returns how many calls were answered. */
  async function useSteadily(key) {
    const clients = await Promise.all([1, 2, 3, 4].map(() => cluster.connect('postgres')));
    let answered = 0;
    let isOver = false;
    const loops = clients.map(async (client) => {
      client.on('error', () => { /* it is killed */ });
      try {
        while (!isOver) {
          const { rows: [{ answer }] } = await client.query('select tests.pass($1) as answer', [key]);
          assert.equal(answer, 'passed');
          answered += 1;
        }
      } catch (error) {
        if (error instanceof assert.AssertionError) throw error;
      }
      await Promise.race([client.end().catch(() => {}), sleep(500)]);
    });
    return {
      answered: () => answered,
      async stop() {
        isOver = true;
        await Promise.all(loops);
        return answered;
      },
    };
  }

  test('counts each request once though it is terminated again and again while it writes', async () => {
    const key = mint();
    const other = await cluster.connect('postgres');
    // It takes a while, so that it is there to be terminated, before and after the update.
    await other.query(`create function tests.slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.05); return null; end';
      create trigger slow after update on pat.api_key_usage for each statement execute function tests.slow()`);
    const use = await useSteadily(key);
    let terminated = 0;
    for (const deadline = Date.now() + 15_000; Date.now() < deadline && terminated < 25;) {
      await other.query('select pg_reload_conf()');  // it wakes the launcher
      const { rowCount } = await other.query(`select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'supabase_pat writer'`);
      terminated += rowCount;
      await sleep(Math.random() * 120);
    }
    const answered = await use.stop();
    await other.query('drop trigger slow on pat.api_key_usage');
    await other.end();
    assert.ok(terminated >= 10, `${terminated} were caught`);
    await until(() => total(key) === answered, `${answered} requests, and not ${total(key)}`);
    await sleep(2200);
    assert.equal(total(key), answered);
  });

  for (const [what, victim] of [
    ['a writer', () => processOf('writer')],
    ['the launcher', () => processOf('launcher')],
    ['a backend', () => Number(sql(`select pid from pg_stat_activity where query like 'select tests.pass($1)%' limit 1`))],
  ]) {
    test(`counts no request that was not made, and none less that has been on the disk, where ${what} is killed`, async () => {
      const key = mint();
      // So that there is a writer to be killed, in the middle of its transaction.
      sql(`create or replace function tests.slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.3); return null; end';
        create trigger slow after update on pat.api_key_usage for each statement execute function tests.slow()`);
      for (let round = 0; round < 2; round += 1) {
        const known = total(key);
        const use = await useSteadily(key);
        await until(() => use.answered() > 100 && total(key) > known, 'counts in the table');
        const written = total(key);
        // A commit that nobody waits for is on the disk after three times wal_writer_delay.
        await sleep(800);
        const lines = readFileSync(cluster.log, 'utf8').length;
        await until(async () => {
          const pid = await victim();
          try {
            return pid > 1 && process.kill(pid, 'SIGKILL');
          } catch {
            return false;  // a writer has just ended
          }
        }, what);
        await until(() => /was terminated by signal 9/.test(readFileSync(cluster.log, 'utf8').slice(lines)), 'a crash in the log');
        const answered = await use.stop();
        await until(() => sql('select true') === 't', 'a server that answers', 30);
        await sleep(2500);
        const found = total(key);
        // Four may have been on their way.
        assert.ok(found >= written && found <= known + answered + 4, `${found}, of ${known + answered}, and there were ${written}`);
      }
      sql('drop trigger slow on pat.api_key_usage');
    });
  }

  test('keeps the counts through a restart of the server', async () => {
    const key = mint();
    pass(key, 6);
    await until(() => total(key) === 6, 'the counts');
    cluster.control('restart');
    assert.equal(total(key), 6);
    pass(key, 2);
    await until(() => total(key) === 8, 'more of them');
  });

  test('goes on in a database that is still at 0.1.0, and counts from the update on', async () => {
    const generated = readFileSync(installed(process.env.PG ?? '15').script(current), 'utf8');
    const installation = new Installation({ defaultVersion: current, scripts: { [current]: generated, ...frozen, ...upgrades } });
    const old = await Cluster.start({ bin: installation.bin, settings: SETTINGS });
    try {
      const there = (statement) => old.psql('postgres', statement);
      const passing = (key, times = 1) => there(`select count(*) from generate_series(1, ${times}) where tests.pass('${key}') = 'passed'`);
      there(`create extension supabase_pat version '0.1.0'; ${SETUP}`);
      const key = there(`select id from mint_pat('${ALICE}', 'test')`);
      const used = () => there(`select last_used_at from pat.api_key_usage where key_id = '${key}'`);
      assert.equal(passing(key, 3), '3');
      const first = await until(used, 'its last use');
      there('update pat.api_keys set revoked_at = now()');
      assert.equal(passing(key), '0');
      there('update pat.api_keys set revoked_at = null');
      await until(() => there(`select sum(count) from pat.events where event = 'refused'`) === '1', 'the refusal');
      assert.equal(passing(key), '1');
      await until(() => used() > first, 'another use');
      there('alter extension supabase_pat update');
      assert.equal(there('select coalesce(sum(requests), 0) from pat.usage_by_day'), '0');
      assert.notEqual(used(), '');
      passing(key, 2);
      await until(() => there(`select requests from pat.usage_by_day where key_id = '${key}'`) === '2', 'the counts');
      assert.doesNotMatch(readFileSync(old.log, 'utf8'), /ERROR|PANIC/);
    } finally {
      old.stop();
      installation.remove();
    }
  });
});
