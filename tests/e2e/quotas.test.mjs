// Limits whose window is a day or longer: they survive whatever ends the server, and never let a request too many
// through. A window of two days or more has an end far away, so that no test runs into the next one but rarely.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { Cluster } from '../cluster/cluster.mjs';
import { ALICE, BOB, SECRET } from './fixture.mjs';
import { eventually, many, open } from './gate_world.mjs';

const SETTINGS = {
  shared_preload_libraries: 'supabase_pat',
  'supabase_pat.jwt_secret': SECRET,
  'supabase_pat.flush_interval': '1',
  'supabase_pat.max_keys_per_user': '100000',
  // A crash is what the tests are about.
  restart_after_crash: 'on',
};
const SETUP = `
  create extension supabase_pat;
  select pat.install_auth_schema();
  insert into auth.users (id, email) values ('${ALICE}', 'alice@example.com'), ('${BOB}', 'bob@example.com');
`;

/** A request with a token, up to the pre-request function: `passed`, or the SQLSTATE and what the answer says. */
async function pass(client, key, owner = ALICE) {
  try {
    await client.query(`begin; select set_config('request.method', 'GET', true), set_config('request.path', '/todos', true),
      set_config('request.headers', '{}', true), set_config('role', 'authenticated', true),
      set_config('request.jwt.claims', '{"role": "authenticated", "sub": "${owner}", "type": "personal_access_token", "jti": "${key}"}', true);
      select pat.gate(); commit`);
    return 'passed';
  } catch (error) {
    // A connection that was cut answers nothing more.
    if (!error.code || !/^(PGRST|PT\d+|57014)$/.test(error.code)) throw error;
    await client.query('rollback');
    const { code } = error.code === 'PGRST' ? JSON.parse(error.message) : error;
    return code;
  }
}

const mint = (cluster, quota, more = '', database = 'postgres') => cluster.psql(database,
  `select id from mint_pat('${ALICE}', 'test', quota => ${quota}, quota_window => '31 days'${more})`);
const rows = (cluster, key, database = 'postgres') => cluster.psql(database,
  `select limit_name, granted from pat.api_key_counters where key_id = '${key}' order by 1`);

/** Makes requests until they are refused, and returns how many have passed and why no more did. */
async function useUp(client, key, most = 100_000) {
  for (let passed = 0; passed < most; passed += 1) {
    const outcome = await pass(client, key);
    if (outcome !== 'passed') return [passed, outcome];
  }
  return [most, 'passed'];
}

/** Waits until a server that has crashed or restarted takes connections. */
async function isUp(cluster) {
  await eventually(async () => {
    const client = new pg.Client({ host: cluster.folder, port: cluster.port, user: 'postgres', database: 'postgres' });
    client.on('error', () => {});
    try {
      await client.connect();
      return (await client.query('select 1')).rowCount;
    } catch {
      return false;
    } finally {
      await client.end().catch(() => {});
    }
  }, 30);
}

const processes = (cluster, type) => cluster.psql('postgres',
  `select pid from pg_stat_activity where backend_type = '${type}'`).split('\n').filter(Boolean).map(Number);

describe('a server', () => {
  let cluster;
  const clients = [];
  const connect = async (database = 'postgres') => {
    const client = await cluster.connect(database);
    client.on('error', () => {});
    clients.push(client);
    return client;
  };
  before(async () => {
    cluster = await Cluster.start({ settings: SETTINGS });
    cluster.psql('postgres', SETUP);
  });
  afterEach(async () => {
    for (const client of clients.splice(0)) await Promise.race([client.end().catch(() => {}), sleep(1000)]);
  });
  after(() => cluster.stop());

  test('a token has its quota, and its rate beside it', async () => {
    const client = await connect();
    const key = mint(cluster, 40);
    assert.deepEqual(await useUp(client, key), [40, 'PT429']);
    assert.equal(rows(cluster, key), 'quota|40');
    const both = mint(cluster, 3, `, rate_limit => 2, rate_window => '1 hour'`);
    assert.deepEqual(await useUp(client, both), [2, 'PT429']);
    cluster.psql('postgres', `update pat.api_keys set rate_limit = 100 where id = '${both}'`);
    // What the rate has refused has not used up the quota.
    assert.deepEqual(await useUp(client, both), [1, 'PT429']);
  });

  test('either argument may ask for a long window', async () => {
    const client = await connect();
    const key = mint(cluster, 30, `, rate_limit => 20, rate_window => '2 days'`);
    assert.deepEqual(await useUp(client, key), [20, 'PT429']);
    assert.match(rows(cluster, key), /^quota\|\d+\nrate\|20$/);
  });

  test('the doctor says where parallel queries can take the processes that grant requests', async () => {
    cluster.psql('postgres', 'create database crowded');
    cluster.psql('crowded', SETUP);
    const worker = () => cluster.psql('crowded', `select ok, detail from pat.status() where "check" = 'worker'`);
    const says = (pattern) => eventually(() => pattern.test(worker()), 60);
    await says(/^t\|wrote/);
    const key = mint(cluster, 30, '', 'crowded');
    assert.equal(worker(), 'f|parallel queries can take all 8 processes of max_worker_processes, and then requests with tokens '
      + 'whose limit is a day or longer (1) get 503: set max_parallel_workers to 5, or raise max_worker_processes and restart');
    cluster.psql('postgres', 'alter system set max_parallel_workers = 5');
    cluster.psql('postgres', 'select pg_reload_conf()');
    await says(/^t\|wrote/);
    cluster.psql('postgres', 'alter system reset max_parallel_workers');
    cluster.psql('postgres', 'select pg_reload_conf()');
    await says(/^f\|parallel/);
    cluster.psql('crowded', `select revoke_pat('${key}')`);
    await says(/^t\|wrote/);
  });

  test('a restart renews nothing', async () => {
    const key = mint(cluster, 100);
    const before = await connect();
    assert.equal(await pass(before, key), 'passed');
    const granted = Number(rows(cluster, key).split('|')[1]);
    assert.ok(granted >= 1 && granted <= 10, String(granted));
    cluster.control('restart');
    await isUp(cluster);
    const client = await connect();
    assert.deepEqual(await useUp(client, key), [100 - granted, 'PT429']);
    cluster.control('restart');
    await isUp(cluster);
    assert.deepEqual(await useUp(await connect(), key), [0, 'PT429']);
  });

  test('a longer window renews nothing, across a restart too', async () => {
    const key = cluster.psql('postgres', `select id from mint_pat('${ALICE}', 'test', quota => 2, quota_window => '10 days')`);
    assert.deepEqual(await useUp(await connect(), key), [2, 'PT429']);
    for (const days of [11, 12, 13, 17, 30]) {
      cluster.psql('postgres', `select edit_pat('${key}', quota_window => '${days} days')`);
      cluster.control('restart');
      await isUp(cluster);
      assert.equal(await pass(await connect(), key), 'PT429', `${days} days`);
    }
  });

  test('a window that is over, by the table too, leaves room for the next one', async () => {
    const key = mint(cluster, 2);
    assert.deepEqual(await useUp(await connect(), key), [2, 'PT429']);
    cluster.psql('postgres', `update pat.api_key_counters set window_ends_at = now() - interval '1 minute' where key_id = '${key}'`);
    cluster.control('restart');
    await isUp(cluster);
    assert.deepEqual(await useUp(await connect(), key), [2, 'PT429']);
  });

  test('rows of windows that are over are swept', async () => {
    const client = await connect();
    cluster.psql('postgres', `insert into pat.api_key_counters
      select gen_random_uuid(), 'quota', now() - interval '1 day', 1 from generate_series(1, 100)`);
    await eventually(async () => {
      await pass(client, mint(cluster, 2));
      return cluster.psql('postgres', `select count(*) from pat.api_key_counters where window_ends_at < now()`) === '0';
    }, 20);
  });

  test('a request that waits for a lease can be cancelled, holds no lock, and waits a bounded time', async () => {
    const [client, other, locker] = [await connect(), await connect(), await connect()];
    const key = mint(cluster, 40);
    await locker.query('begin; lock table pat.api_key_counters in access exclusive mode');
    const began = Date.now();
    const waiting = pass(client, key);
    const patient = pass(other, key);
    await sleep(300);
    // Others are not held up by those that wait.
    const third = await connect();
    const free = cluster.psql('postgres', `select id from mint_pat('${ALICE}', 'test', rate_limit => 2)`);
    assert.equal(await pass(third, free), 'passed');
    const { rows: [{ locks }] } = await third.query(`select count(*) as locks from pg_locks where pid = $1
      and relation = 'pat.api_key_counters'::regclass`, [client.processID]);
    assert.equal(locks, '0');
    await third.query('select pg_cancel_backend($1)', [client.processID]);
    assert.equal(await waiting, '57014');
    assert.ok(Date.now() - began < 1500);
    assert.equal(await patient, 'PT503');
    const took = Date.now() - began;
    assert.ok(took >= 1900 && took < 4000, `${took} ms`);
    await locker.query('rollback');
    // Nothing of it was used up.
    assert.deepEqual(await useUp(client, key), [40, 'PT429']);
  });

  test('a launcher that is ended while a request waits is missed for a while only', async () => {
    const [client, locker] = [await connect(), await connect()];
    const key = mint(cluster, 40);
    assert.equal(await pass(client, key), 'passed');
    await locker.query('begin; lock table pat.api_key_counters in access exclusive mode');
    const other = mint(cluster, 40);
    const waiting = pass(await connect(), other);
    await sleep(100);
    for (const pid of processes(cluster, 'supabase_pat launcher')) await client.query('select pg_terminate_backend($1)', [pid]);
    await locker.query('rollback');
    assert.ok(['PT503', 'passed'].includes(await waiting));
    await eventually(async () => await pass(client, other) === 'passed', 15);
    await eventually(() => processes(cluster, 'supabase_pat launcher').length, 15);
    assert.deepEqual(await useUp(client, key), [39, 'PT429']);
    assert.deepEqual(await useUp(client, other), [await waiting === 'passed' ? 38 : 39, 'PT429']);
  });

  test('each database has its own', async () => {
    cluster.psql('postgres', 'create database second');
    cluster.psql('second', SETUP);
    const key = mint(cluster, 5);
    cluster.psql('second', `insert into pat.api_keys (id, user_id, name, expires_at, quota, quota_window)
      values ('${key}', '${ALICE}', 'the same id', now() + interval '1 day', 7, '31 days')`);
    const [here, there] = [await connect(), await connect('second')];
    const [first, second] = await Promise.all([useUp(here, key), useUp(there, key)]);
    assert.deepEqual([first, second], [[5, 'PT429'], [7, 'PT429']]);
    assert.equal(rows(cluster, key, 'second'), 'quota|7');
  });

  test('a database that its owner keeps everybody out of holds up no other', async () => {
    cluster.psql('postgres', 'create role mallory createdb');
    cluster.psql('postgres', 'create database closed owner mallory');
    cluster.psql('closed', SETUP);
    const [client, mallory, there] = [await connect(), await connect(), await connect('closed')];
    const key = mint(cluster, 2, '', 'closed');
    // What the last request there has left is to be written.
    await useUp(there, key);
    await there.end();
    await mallory.query('set session authorization mallory');
    await eventually(() => mallory.query('begin; alter database closed rename to open')
      .catch(() => mallory.query('rollback').then(() => false)), 20);
    const log = () => readFileSync(cluster.log, 'utf8').split('canceling statement due to lock timeout').length;
    const before = log();
    // A writer has been kept out, and one more after it.
    await eventually(() => log() >= before + 2, 20);
    for (let round = 0; round < 3; round += 1) assert.equal(await pass(client, mint(cluster, 10)), 'passed');
    await mallory.query('rollback');
    await eventually(() => cluster.psql('closed', `select requests from pat.api_key_usage where key_id = '${key}'`) === '2', 20);
  });

  test('an extension that is dropped and created again has forgotten nothing of others', async () => {
    cluster.psql('postgres', 'create database third');
    cluster.psql('third', SETUP);
    const there = await connect('third');
    const first = mint(cluster, 3, '', 'third');
    assert.equal(await pass(there, first), 'passed');
    cluster.psql('third', 'drop extension supabase_pat; create extension supabase_pat');
    assert.equal(await pass(there, first), 'PT401');
    assert.deepEqual(await useUp(there, mint(cluster, 3, '', 'third')), [3, 'PT429']);
  });

  test('a dump has what was granted', async () => {
    const [full, begun] = [mint(cluster, 3), mint(cluster, 100)];
    const client = await connect();
    assert.deepEqual(await useUp(client, full), [3, 'PT429']);
    assert.equal(await pass(client, begun), 'passed');
    const granted = Number(rows(cluster, begun).split('|')[1]);
    const file = join(cluster.folder, 'dump');
    cluster.run('pg_dump', ['-h', cluster.folder, '-p', String(cluster.port), '-U', 'postgres', '-Fc', '-f', file, 'postgres']);
    cluster.psql('postgres', 'create database restored');
    cluster.run('pg_restore', ['-h', cluster.folder, '-p', String(cluster.port), '-U', 'postgres', '-d', 'restored', file]);
    const there = await connect('restored');
    assert.deepEqual(await useUp(there, full), [0, 'PT429']);
    assert.deepEqual(await useUp(there, begun), [100 - granted, 'PT429']);
  });

  test('two thousand tokens that all need their first lease get it', async (context) => {
    const keys = cluster.psql('postgres', `select (mint_pat('${ALICE}', 'storm', quota => 100, quota_window => '31 days')).id
      from generate_series(1, 2000)`).split('\n');
    const crowd = await Promise.all(Array.from({ length: 50 }, () => connect()));
    const began = Date.now();
    const outcomes = await many(keys.length, crowd.length, (n) => {
      const client = crowd.pop();
      return pass(client, keys[n]).finally(() => crowd.push(client));
    });
    const took = Date.now() - began;
    context.diagnostic(`${took} ms`);
    assert.deepEqual(new Set(outcomes), new Set(['passed']));
    assert.ok(took < 30_000, `${took} ms`);
  });

  test('whatever is killed, and whenever: never a request too many, and few are lost', async (context) => {
    const QUOTA = 9000;
    const WAYS = ['backend', 'launcher', 'writer', 'postmaster', 'backend', 'launcher', 'postmaster', 'writer'];
    const key = mint(cluster, QUOTA);
    let passed = 0;
    let isOver = false;
    const seconds = new Map();
    async function requests() {
      while (!isOver) {
        // A connection that was cut at certain moments says nothing at all.
        const client = new pg.Client({ host: cluster.folder, port: cluster.port, user: 'postgres', database: 'postgres',
          connectionTimeoutMillis: 2000, query_timeout: 4000 });
        client.on('error', () => {});
        try {
          await client.connect();
          while (!isOver) {
            const outcome = await pass(client, key);
            if (outcome === 'passed') {
              passed += 1;
              const second = Math.floor(Date.now() / 1000);
              seconds.set(second, (seconds.get(second) ?? 0) + 1);
            } else if (outcome === 'PT429') {
              return;
            }
            await sleep(60);
          }
        } catch {
          await sleep(100); // the server is not there
        } finally {
          // A connection that was cut may never say that it has ended.
          await Promise.race([client.end().catch(() => {}), sleep(100)]);
        }
      }
    }
    const crowd = Array.from({ length: 20 }, requests);
    for (const way of WAYS) {
      await sleep(500 + Math.random() * 1000);
      if (way === 'postmaster') {
        const [pid] = readFileSync(join(cluster.data, 'postmaster.pid'), 'utf8').split('\n');
        process.kill(Number(pid), 'SIGKILL');
        await eventually(() => {
          try {
            cluster.control('start');
            return true;
          } catch {
            return false; // its children have not ended yet
          }
        }, 30);
      } else {
        const type = { backend: 'client backend', launcher: 'supabase_pat launcher', writer: 'supabase_pat writer' }[way];
        // A writer is there for some milliseconds only, unless it has to wait.
        const locker = way === 'writer' ? await cluster.connect('postgres') : undefined;
        locker?.on('error', () => {});
        await locker?.query('begin; lock table pat.api_key_counters in access exclusive mode');
        await eventually(() => {
          const [pid] = processes(cluster, type);
          if (pid) process.kill(pid, 'SIGKILL');
          return pid;
        }, 10).catch((error) => { throw new Error(`${way}: ${error.message}`); });
        if (locker) await Promise.race([locker.end().catch(() => {}), sleep(100)]);
      }
      await isUp(cluster);
    }
    await isUp(cluster);
    const end = Date.now() + 60_000;
    while (passed < QUOTA && Date.now() < end) {
      const [more, outcome] = await useUp(await connect(), key);
      passed += more;
      if (outcome === 'PT429') break;
    }
    isOver = true;
    await Promise.all(crowd);
    const busiest = Math.max(...seconds.values());
    context.diagnostic(`${passed} of ${QUOTA} with ${WAYS.length} crashes, at most ${busiest} a second`);
    assert.ok(passed <= QUOTA, `${passed}`);
    assert.equal(rows(cluster, key), `quota|${QUOTA}`);
    // Twice what is used between two visits of the worker, which are a second apart.
    assert.ok(QUOTA - passed <= WAYS.length * 2 * busiest, `${passed}`);
  });
});

test('a standby refuses what it cannot count, and goes on from there once it is promoted', async () => {
  const primary = await Cluster.start({ settings: SETTINGS });
  let standby;
  try {
    primary.psql('postgres', SETUP);
    const key = mint(primary, 50);
    const hourly = primary.psql('postgres', `select id from mint_pat('${ALICE}', 'test', quota => 50, quota_window => '1 hour')`);
    standby = await primary.standby();
    const here = await primary.connect('postgres');
    let used = 0;
    for (; used < 10; used += 1) assert.equal(await pass(here, key), 'passed');
    await here.end();
    await primary.caughtUp(standby);
    const there = await standby.connect('postgres');
    const began = Date.now();
    const refused = await there.query(`begin; select set_config('request.method', 'GET', true),
      set_config('request.jwt.claims', '{"role": "authenticated", "sub": "${ALICE}", "type": "personal_access_token", "jti": "${key}"}', true);
      select pat.gate()`).catch((error) => error);
    await there.query('rollback');
    assert.equal(refused.code, 'PT503');
    assert.equal(refused.message, 'the requests of the personal access token are counted only on the primary');
    assert.match(refused.hint, /Send the request to the primary/);
    assert.ok(Date.now() - began < 1000, 'it does not wait');
    assert.equal(await pass(there, hourly), 'passed');
    primary.control('stop');
    standby.control('promote');
    await eventually(async () => await pass(there, key) === 'passed', 20);
    const [more, outcome] = await useUp(there, key);
    assert.equal(outcome, 'PT429');
    assert.ok(used + 1 + more <= 50 && more > 20, `${more}`);
    assert.equal(rows(standby, key), 'quota|50');
    await there.end();
  } finally {
    standby?.stop();
    primary.stop();
  }
});

describe('through REST', () => {
  let world;
  before(async () => {
    world = await open({
      sql: `create function cached() returns text language plpgsql as $$
        begin
          perform set_config('response.headers', '[{"Cache-Control": "no-store"}]', true);
          return 'cached';
        end $$;
        create function also() returns text language plpgsql as $$
        begin
          perform set_config('response.headers', (coalesce(nullif(current_setting('response.headers', true), ''), '[]')::jsonb
            || '[{"Cache-Control": "no-store"}]')::text, true);
          return 'also';
        end $$;`,
    });
  });
  after(() => world.close());

  const token = async (asked) => {
    const [{ token }] = await world.rows(`select token from mint_pat('${ALICE}', 'test', ${asked})`);
    return { token };
  };

  test('answers tell how much is left of both limits, refusals too', async () => {
    const send = await token(`rate_limit => 100, rate_window => '1 hour', quota => 3, quota_window => '31 days'`);
    const POLICY = '"rate";q=100;w=3600, "quota";q=3;w=2678400';
    for (const left of [2, 1, 0]) {
      const { status, headers, data } = await world.ask('POST', '/rpc/current_api_key', { ...send, body: {} });
      assert.equal(status, 200, JSON.stringify(data));
      assert.equal(headers['ratelimit-policy'], POLICY);
      assert.match(headers.ratelimit, new RegExp(`^"rate";r=${97 + left};t=\\d+, "quota";r=${left};t=\\d+$`));
      assert.deepEqual([data.quota.limit, data.quota.window, data.quota.remaining], [3, 2_678_400, left]);
      assert.equal(data.rate_limit.remaining, 97 + left);
      assert.ok(data.quota.resets_at > Date.now() / 1000);
    }
    const { status, headers, data } = await world.ask('POST', '/rpc/current_api_key', { ...send, body: {} });
    assert.equal(status, 429);
    assert.equal(data.message, 'the personal access token has used up its 3 requests in 2678400 seconds');
    assert.equal(headers['ratelimit-policy'], POLICY);
    assert.match(headers.ratelimit, /^"rate";r=97;t=\d+, "quota";r=0;t=\d+$/);
    assert.equal(headers['retry-after'], headers.ratelimit.match(/\d+$/)[0]);
  });

  test('a token without a limit, and a login, have no such headers', async () => {
    for (const send of [await token('expires_in => null'), { token: await world.login(ALICE) }]) {
      const { status, headers } = await world.ask('POST', '/rpc/whoami', { ...send, body: {} });
      assert.deepEqual([status, headers.ratelimit, headers['ratelimit-policy']], [200, undefined, undefined]);
    }
  });

  test('a function that sets headers of its own replaces these, unless it adds to them', async () => {
    const send = await token('rate_limit => 100');
    const replaced = await world.ask('POST', '/rpc/cached', { ...send, body: {} });
    assert.deepEqual([replaced.headers['cache-control'], replaced.headers.ratelimit], ['no-store', undefined]);
    const added = await world.ask('POST', '/rpc/also', { ...send, body: {} });
    assert.equal(added.headers['cache-control'], 'no-store');
    assert.match(added.headers.ratelimit, /^"rate";r=98;t=\d+$/);
  });

  test('a superuser can switch them off', async () => {
    const send = await token('rate_limit => 1');
    world.cluster.configure({ 'supabase_pat.rate_limit_headers': 'off' });
    world.cluster.psql('postgres', 'select pg_reload_conf()');
    await eventually(async () => {
      const { headers } = await world.ask('POST', '/rpc/whoami', { ...await token('rate_limit => 1'), body: {} });
      return headers.ratelimit === undefined;
    });
    assert.equal((await world.ask('POST', '/rpc/whoami', { ...send, body: {} })).status, 200);
    const { status, headers } = await world.ask('POST', '/rpc/whoami', { ...send, body: {} });
    assert.deepEqual([status, headers.ratelimit], [429, undefined]);
    world.cluster.configure({ 'supabase_pat.rate_limit_headers': 'on' });
    world.cluster.psql('postgres', 'select pg_reload_conf()');
  });
});
