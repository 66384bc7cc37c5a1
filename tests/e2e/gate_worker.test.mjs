// What the gate counts in shared memory, and the workers that carry it into the tables: through crashes,
// restarts, dropped databases, locks, and on a standby.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { Cluster } from '../cluster/cluster.mjs';
import { ALICE, BOB, SECRET } from './fixture.mjs';

const PASSED = 'passed';
const REVOKED = 'PT401 the personal access token has been revoked';
const SETTINGS = {
  shared_preload_libraries: 'supabase_pat',
  'supabase_pat.jwt_secret': SECRET,
  'supabase_pat.flush_interval': '1',
  'supabase_pat.max_keys_per_user': '100000',
  // Only then does a database that nobody connects to stay without a transaction.
  autovacuum: 'off',
};

// A request as the REST server makes it, up to the pre-request function, and what comes of it.
const SETUP = `
  create extension supabase_pat;
  select pat.install_auth_schema();
  insert into auth.users (id, email) values ('${ALICE}', 'alice@example.com');
  create schema tests;
  grant usage on schema tests to public;
  insert into auth.users (id, email) values ('${BOB}', 'bob@example.com');
  create function tests.mint(rate_limit integer default null, owner uuid default '${ALICE}') returns uuid language sql as $$
    select id from mint_pat(owner, 'test', rate_limit => rate_limit, rate_window => '23 hours')
  $$;
  -- Of keys that are not Alice's.
  create table tests.owners (id uuid primary key, user_id uuid not null);
  grant select on tests.owners to public;
  create function tests.mint_for(owner uuid, rate_limit integer default null) returns uuid language sql as $$
    with minted as (select tests.mint(rate_limit, owner) as id)
    insert into tests.owners select id, owner from minted returning id
  $$;
  create procedure tests.use_key(key uuid) language plpgsql as $$
  begin
    perform set_config('request.method', 'GET', true), set_config('request.path', '/todos', true),
      set_config('request.headers', '{}', true), set_config('role', 'authenticated', true),
      set_config('request.jwt.claims', jsonb_build_object('role', 'authenticated',
        'sub', coalesce((select user_id from tests.owners where id = key), '${ALICE}'),
        'type', 'personal_access_token', 'jti', key)::text, true);
  end
  $$;
  create function tests.pass(key uuid) returns text language plpgsql as $$
  begin
    call tests.use_key(key);
    perform pat.gate();
    return '${PASSED}';
  exception when others then
    return sqlstate || ' ' || sqlerrm;
  end
  $$;
  create function tests.is_valid(key uuid) returns boolean language plpgsql as $$
  begin
    call tests.use_key(key);
    return is_valid_api_token();
  end
  $$;
`;

let main;
const others = [];
const clients = [];
before(async () => {
  main = await Cluster.start({ settings: SETTINGS });
  sql(SETUP);
});
beforeEach(() => isUp());
afterEach(async () => {
  for (const client of clients.splice(0)) await Promise.race([client.end().catch(() => {}), pause(1000)]);
  for (const cluster of others.splice(0)) cluster.stop();
});
after(() => main.stop());

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(condition, what, seconds = 15) {
  for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline;) {
    const answer = await condition();
    if (answer) return answer;
    await pause(50);
  }
  let workers = '';
  try {
    workers = sql("select pid, datname, backend_type, state, wait_event_type, wait_event, now() - backend_start from pg_stat_activity where backend_type like 'supabase_pat%'");
  } catch { /* there is no server */ }
  throw new Error(`after ${seconds} seconds not yet: ${what}\n${workers}\n${log().slice(-3000)}`);
}

const sql = (statement, { database = 'postgres', cluster = main } = {}) => cluster.psql(database, statement);
const mint = (where, limit = 'null') => sql(`select tests.mint(${limit})`, where);
const pass = (key, where) => sql(`select tests.pass('${key}')`, where);
/** How many of so many new tokens with a limit are let through. */
const passing = (count, owner, where) => {
  sql(`drop table if exists late; create table late as select tests.mint_for('${owner}', 1) as id from generate_series(1, ${count})`, where);
  return Number(sql(`select count(*) from late where tests.pass(id) = '${PASSED}'`, where));
};
const isValid = (key, where) => sql(`select tests.is_valid('${key}')`, where);
const lastUse = (key, where) => sql(`select last_used_at from api_keys where id = '${key}'`, where);
/** Waits until a use after `time` is in the table, and returns its time. */
const written = (key, where, time = '-infinity') => until(() => sql(`select last_used_at from pat.api_key_usage
  where key_id = '${key}' and last_used_at > '${time}'`, where), `a use of ${key} in the table`);
const now = (where) => sql('select clock_timestamp()', where);

async function connect(database = 'postgres', user = 'postgres') {
  const client = await main.connect(database, user);
  client.on('error', () => { /* it is killed */ });
  clients.push(client);
  return client;
}

function createDatabase(name) {
  sql(`drop database if exists ${name}`);
  sql(`create database ${name}`);
  sql(SETUP, { database: name });
  return { database: name };
}

const log = () => readFileSync(main.log, 'utf8');
/** What the server has logged since this was called. */
function newLog() {
  const start = log().length;
  return () => log().slice(start).split('\n');
}
const errors = (lines) => lines.filter((line) => /ERROR|FATAL|PANIC|terminated by signal|exited with exit code [1-9]/.test(line));

function processOf(type) {
  return Number(sql(`select pid from pg_stat_activity where backend_type = 'supabase_pat ${type}'`));
}
const writerWaits = () => sql(`select pid from pg_stat_activity
  where backend_type = 'supabase_pat writer' and wait_event_type = 'Lock'`);
const status = (check, where) => JSON.parse(sql(`select to_jsonb(s) from pat.status() s where "check" = '${check}'`, where) || 'null');

const isUp = () => until(() => {
  try {
    return sql('select true');
  } catch {
    return false;
  }
}, 'a server that answers');
const workerIsOk = () => until(() => {
  const { ok, detail } = status('worker');
  return ok && /^wrote/.test(detail);
}, 'a worker that is well');

/** Lets four connections call the gate without a pause, until it is stopped or they are cut off. */
async function useSteadily(key) {
  const those = await Promise.all([1, 2, 3, 4].map(() => connect()));
  const requests = () => Number(sql('select requests from pat.server_state()'));
  const first = requests();
  // In the server, so that it goes on while this process waits.
  const loops = Promise.allSettled(those.map((client) => client.query(`do $$
    begin
      loop
        if tests.pass('${key}') <> '${PASSED}' then
          raise exception 'refused';
        end if;
      end loop;
    end $$`)));
  await until(() => requests() > first + 100, 'calls');
  return {
    requests,
    /** With what the connections have ended, as SQLSTATEs. */
    async stop() {
      await isUp();
      for (const { processID } of those) sql(`select pg_cancel_backend(pid) from pg_stat_activity where pid = ${processID}`);
      return (await loops).map(({ reason }) => reason.code);
    },
  };
}

/** Lets `crash` happen while the gate is being called, and shows that all is there afterwards. */
async function survives(crash, { restart = false } = {}) {
  const [live, revoked] = [mint(), mint()];
  assert.equal(pass(revoked), PASSED);
  assert.equal(sql(`select revoke_pat('${revoked}')`), 't');
  assert.equal(pass(revoked), REVOKED);
  assert.equal(pass(live), PASSED);
  await written(live);
  const keys = sql('select count(*) from pat.api_keys');
  const started = sql('select pg_postmaster_start_time()');
  const lines = newLog();

  const use = await useSteadily(live);
  await crash(lines);
  // Not one was refused.
  assert.ok(!(await use.stop()).includes('P0001'));
  const crashed = now();

  assert.equal(sql('select pg_postmaster_start_time()') !== started, restart);
  assert.equal(sql('select count(*) from pat.api_keys'), keys);
  assert.equal(pass(revoked), REVOKED);
  assert.equal(isValid(revoked), 'f');
  assert.equal(isValid(live), 't');
  assert.equal(pass(live), PASSED);
  await written(live, {}, crashed);
  await workerIsOk();
}

const kill = (process_, signal = 'SIGKILL') => {
  assert.ok(process_ > 1, 'no such process');
  try {
    process.kill(process_, signal);
  } catch (error) {
    // It has followed another one by itself.
    if (error.code !== 'ESRCH') throw error;
  }
};
const wasKilled = (lines) => until(() => lines().some((line) => /was terminated by signal 9/.test(line)), 'a crash in the log');
const isGone = (process_) => {
  try {
    return /^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${process_}/stat`, 'utf8'));
  } catch {
    return true;
  }
};
const postmaster = () => Number(readFileSync(join(main.data, 'postmaster.pid'), 'utf8').split('\n')[0]);
/** Starts the server anew as a child of this process, which reaps it when it is killed: one that nobody reaps, as in
 * some containers, keeps its process id, so that the next one takes it for alive. */
async function startAsChild() {
  main.control('stop');
  const id = (flag) => Number(spawnSync('id', [flag, 'postgres']).stdout.toString());
  const user = process.getuid() === 0 ? { uid: id('-u'), gid: id('-g') } : {};
  const output = openSync(main.log, 'a');
  spawn(join(main.bin, 'postgres'), ['-D', main.data], { ...user, cwd: '/', detached: true, stdio: ['ignore', output, output] }).unref();
  await isUp();
}
const children = () => sql('select pid from pg_stat_activity where pid <> pg_backend_pid()').split('\n').map(Number);

test('uses are written within the interval, in each database of the cluster', async () => {
  sql('create database bare');
  const lines = newLog();
  const places = [{}, createDatabase('second'), createDatabase('third')];
  const keys = places.map((where) => mint(where));
  await pause(1200);
  for (const [i, key] of keys.entries()) {
    assert.equal(lastUse(key, places[i]), '');
    assert.equal(pass(key, places[i]), PASSED);
  }
  const used = Date.now();
  for (const [i, key] of keys.entries()) {
    const time = await written(key, places[i]);
    assert.equal(lastUse(key, places[i]), time);
    assert.equal(sql(`select last_used_at between now() - interval '5 seconds' and now() from api_keys where id = '${key}'`, places[i]), 't');
  }
  assert.ok(Date.now() - used < 2500, `after ${Date.now() - used} ms`);
  // Nobody has been in the database without the extension, and all the others have been left.
  assert.equal(sql(`select xact_commit + xact_rollback from pg_stat_database where datname = 'bare'`), '0');
  assert.deepEqual(errors(lines()), []);
  for (const database of ['bare', 'second', 'third']) sql(`drop database ${database}`);
});

test('under steady use a row is written once an interval', async () => {
  const key = mint();
  const writes = () => Number(sql(`select pg_stat_force_next_flush();
    select n_tup_ins + n_tup_upd from pg_stat_user_tables where relname = 'api_key_usage'`));
  // What other tests have used is written.
  await pause(1500);
  const before_ = writes();
  const use = await useSteadily(key);
  const started = Date.now();
  await pause(3000);
  const requests = use.requests();
  const intervals = (Date.now() - started) / 1000;
  const ends = await use.stop();
  await pause(1500);
  const count = writes() - before_;
  assert.deepEqual(ends, ['57014', '57014', '57014', '57014']);
  assert.ok(count >= 3, `${count} writes in ${intervals} intervals`);
  assert.ok(count <= intervals + 3, `${count} writes in ${intervals} intervals, of ${requests} requests`);
});

test('a backend is killed while it is in the gate', () => survives(async (lines) => {
  const busy = () => sql(`select pid from pg_stat_activity where state = 'active' and query like 'do $$%' limit 1`);
  kill(Number(await until(busy, 'a busy backend')));
  await wasKilled(lines);
}));

test('the launcher is killed', () => survives(async (lines) => {
  kill(processOf('launcher'));
  await wasKilled(lines);
}));

test('a writer is killed', () => survives(async (lines) => {
  const holder = await connect();
  await holder.query('begin; lock table pat.api_key_usage in access exclusive mode');
  kill(Number(await until(writerWaits, 'a writer')));
  await wasKilled(lines);
}));

test('the postmaster is killed, and the launcher ends by itself', () => startAsChild().then(() => survives(async () => {
  const [parent, launcher, all] = [postmaster(), processOf('launcher'), children()];
  kill(parent);
  await until(() => isGone(launcher), 'the end of the launcher', 5);
  // A backend does not look for the postmaster while a statement runs.
  for (const one of all.filter((one) => !isGone(one))) kill(one);
  await until(() => [parent, ...all].every(isGone), 'the end of all');
  main.control('start');
}, { restart: true })));

test('the postmaster and all its children are killed', () => startAsChild().then(() => survives(async () => {
  const all = [postmaster(), ...children()];
  for (const one of all) kill(one);
  await until(() => all.every(isGone), 'the end of all');
  main.control('start');
}, { restart: true })));

test('a writer that is terminated while it writes takes nobody with it', async () => {
  const where = createDatabase('terminated');
  sql('create table keys as select tests.mint() as id from generate_series(1, 1000)', where);
  const lines = newLog();
  const client = await connect('terminated');
  const other = await connect();
  let terminated = 0;
  for (let attempt = 0; attempt < 25; attempt += 1) {
    try {
      await client.query('select count(tests.pass(id)) from keys');
      // It wakes the launcher.
      await other.query('select pg_reload_conf()');
      for (const deadline = Date.now() + 500; Date.now() < deadline;) {
        const { rowCount } = await other.query(`select pg_terminate_backend(pid) from pg_stat_activity
          where backend_type = 'supabase_pat writer' and backend_xid is not null`);
        terminated += rowCount;
        if (rowCount > 0) break;
      }
    } catch (error) {
      await isUp();
      const [panic] = lines().filter((line) => /PANIC/.test(line));
      assert.fail(`after ${terminated} of them: ${panic ?? error}`);
    }
  }
  assert.ok(terminated >= 5, `${terminated} were caught`);
  await until(() => sql('select count(*) = 1000 from pat.api_key_usage', where) === 't', 'all uses in the table');
  await client.end();
  sql('drop database terminated');
});

test('a launcher that is terminated while a writer is at work ends, and does not go on with the next database', async () => {
  const where = createDatabase('flushed');
  const holders = [await connect(), await connect('flushed')];
  for (const holder of holders) await holder.query('begin; lock table pat.api_key_usage');
  pass(mint());
  pass(mint(where), where);
  // The databases are written in the order of their ids, and this one was there first.
  await until(() => sql(`select pid from pg_stat_activity where backend_type = 'supabase_pat writer' and datname = 'postgres'
    and wait_event_type = 'Lock'`), 'a writer that waits');
  const launcher = processOf('launcher');
  kill(launcher, 'SIGTERM');
  await until(() => isGone(launcher), 'the end of the launcher', 5);
  for (const holder of holders) await holder.query('rollback');
  await until(() => processOf('launcher'), 'another launcher', 8);
  sql('drop database flushed with (force)');
});

test('a launcher that is terminated comes again within seconds', async () => {
  const key = mint();
  const launcher = processOf('launcher');
  const terminated = Date.now();
  assert.equal(sql(`select pg_terminate_backend(${launcher})`), 't');
  await until(() => processOf('launcher') !== launcher, 'the end of the launcher', 3);
  assert.equal(pass(key), PASSED);
  const next = await until(() => processOf('launcher'), 'another launcher', 8);
  assert.notEqual(next, launcher);
  assert.ok(Date.now() - terminated < 8000, `after ${Date.now() - terminated} ms`);
  await written(key);
  await workerIsOk();
});

test('a changed interval counts from the reload on', async () => {
  const reload = async (interval) => {
    main.configure({ 'supabase_pat.flush_interval': interval });
    sql('select pg_reload_conf()');
    await pause(300);
  };
  const key = mint();
  await reload('1h');
  assert.equal(pass(key), PASSED);
  await pause(1800);
  const between = lastUse(key);
  await reload('1s');
  const reloaded = Date.now();
  assert.equal(between, '');
  await written(key);
  assert.ok(Date.now() - reloaded < 2000, `after ${Date.now() - reloaded} ms`);
});

for (const mode of ['fast', 'smart', 'fast, while a writer waits for a lock,']) {
  test(`the server stops ${mode} at once`, async () => {
    const key = mint();
    assert.equal(pass(key), PASSED);
    assert.ok(processOf('launcher'));
    if (mode.includes('lock')) {
      const holder = await connect();
      await holder.query('begin; lock table pat.api_key_usage in access exclusive mode');
      await until(writerWaits, 'a writer');
    }
    const lines = newLog();
    const asked = Date.now();
    main.run('pg_ctl', ['-D', main.data, '-w', '-m', mode.split(',')[0], 'stop']);
    const took = Date.now() - asked;
    main.control('start');
    assert.ok(took < 3000, `it took ${took} ms`);
    assert.deepEqual(lines().filter((line) => /PANIC|terminated by signal|not properly shut down/.test(line)), []);
    assert.equal(pass(key), PASSED);
    await written(key);
    await workerIsOk();
  });
}

test('an extension that is dropped with unwritten uses and refusals leaves the server in peace', async () => {
  const where = createDatabase('dropped');
  const [key, revoked] = [mint(where), mint(where)];
  main.configure({ log_min_messages: 'debug1' });
  sql('select pg_reload_conf()');
  try {
    // Uses and refusals; refusals alone.
    for (const uses of [`select tests.pass('${key}');`, '']) {
      const lines = newLog();
      sql(`${uses} select revoke_pat('${revoked}'); select tests.pass('${revoked}');
        drop extension supabase_pat; create extension supabase_pat;
        select tests.pass('${revoked}'); drop extension supabase_pat`, where);
      await pause(1500);
      const later = newLog();
      await pause(1300);
      assert.deepEqual(errors(lines()), []);
      const writers = later().filter((line) => /starting background worker process "supabase_pat writer"/.test(line));
      assert.equal(writers.length, 0, `${writers.length} writers were started for a database without the extension`);
      sql('create extension supabase_pat', where);
      const next = mint(where);
      assert.equal(pass(key, where), 'PT401 there is no such personal access token');
      assert.equal(pass(next, where), PASSED);
      await written(next, where);
    }
  } finally {
    main.configure({ log_min_messages: 'warning' });
    sql('select pg_reload_conf()');
  }
  sql('drop database dropped');
});

test('who takes the place of a dropped extension gets no rights of the writer', async () => {
  const where = createDatabase('taken');
  sql(`create role mallory login; grant create on database taken to mallory;`, where);
  const key = mint(where);
  sql(`select revoke_pat('${key}'); select tests.pass('${key}');
    drop extension supabase_pat; drop schema pat`, where);
  const mallory = await connect('taken', 'mallory');
  await mallory.query(`
    create schema pat;
    create table pat.api_keys (id uuid primary key, user_id uuid, created_at timestamptz, expires_at timestamptz,
      revoked_at timestamptz, replaced_by uuid, rate_limit integer, rate_window interval, name text, scopes text[],
      allowed_ips cidr[], hint text, signing_key text, kind text, token_digest bytea);
    create index on pat.api_keys (user_id);
    create index on pat.api_keys (token_digest);
    create table pat.api_key_usage (key_id uuid primary key, user_id uuid, last_used_at timestamptz, last_used_ip inet);
    create table pat.denied_tokens (message_digest bytea, expires_at timestamptz);
    create table pat.events (id integer, event text, happened_at timestamptz, detail text, count bigint, key_id uuid,
      by_key uuid, user_id uuid, address inet);
    create function pat.climb() returns trigger language plpgsql as $$
    begin
      alter role mallory superuser;
      return null;
    end
    $$;
    create constraint trigger climb after insert on pat.events deferrable initially deferred
      for each row execute function pat.climb()`);
  const lines = newLog();
  await pause(2500);
  const { rows } = await mallory.query(`select rolsuper from pg_roles where rolname = 'mallory'`);
  const count = await mallory.query('select count(*)::int from pat.events');
  await mallory.end();
  sql('drop database taken');
  sql('drop role mallory');
  assert.deepEqual(rows, [{ rolsuper: false }]);
  assert.deepEqual(count.rows, [{ count: 0 }]);
  assert.deepEqual(errors(lines()), [], 'it has not even tried');
});

test('a database that has just been used can be copied and dropped', async () => {
  const where = createDatabase('used');
  const copy = { database: 'copied' };
  sql('create table keys as select tests.mint() as id from generate_series(1, 500)', where);
  const key = sql('select id from keys limit 1', where);
  const lines = newLog();
  for (let round = 0; round < 2; round += 1) {
    // The writer comes at another moment each time.
    await pause(500 * round);
    assert.equal(sql('select count(*) from keys where tests.pass(id) = \'passed\'', where), '500');
    const asked = Date.now();
    sql('create database copied template used');
    assert.ok(Date.now() - asked < 4000, `to copy it took ${Date.now() - asked} ms`);
    const copied = now();
    assert.equal(sql('select count(*) from keys where tests.pass(id) = \'passed\'', copy), '500');
    await written(key, copy, copied);
    assert.equal(sql('select count(*) from keys where tests.pass(id) = \'passed\'', copy), '500');
    const dropped = Date.now();
    sql('drop database copied');
    assert.ok(Date.now() - dropped < 4000, `to drop it took ${Date.now() - dropped} ms`);
  }
  await written(key, where);
  await pause(1200);
  const later = newLog();
  await pause(1500);
  // One that started for a database that was just being copied or dropped may say so, once.
  const found = errors(lines());
  assert.ok(found.length <= 4, found.join('\n'));
  for (const line of found) {
    assert.match(line, /FATAL: {2}database \S+ does not exist|canceling statement due to lock timeout|exited with exit code 1/);
  }
  assert.deepEqual(errors(later()), []);
  sql('drop database used');
});

test('a database that is read-only unless told otherwise does not fill the log', async () => {
  const where = createDatabase('cautious');
  const key = mint(where);
  sql('alter database cautious set default_transaction_read_only = on');
  const lines = newLog();
  assert.equal(pass(key, where), PASSED);
  await pause(2500);
  const found = errors(lines());
  sql('drop database cautious');
  assert.deepEqual(found, []);
});

for (const [what, lock] of [
  ['table of uses', () => 'lock table pat.api_key_usage in access exclusive mode'],
  ['row of a use', (key) => `select from pat.api_key_usage where key_id = '${key}' for update`],
]) {
  test(`no request waits for a writer that waits for the ${what}`, async () => {
    const key = mint();
    assert.equal(pass(key), PASSED);
    await written(key);
    const holder = await connect();
    const client = await connect();
    // Whoever has to wait for a lock fails.
    await client.query("set lock_timeout = '50ms'");
    await holder.query(`begin; ${lock(key)}`);
    const locked = now();
    let waits = 0;
    const ask = async (expression, values) => (await client.query(`select ${expression} as answer`, values)).rows[0].answer;
    // A writer waits for a fifth of a second in each: a busy machine may look away meanwhile.
    const begun = Date.now();
    while (Date.now() < begun + 2000 || (waits === 0 && Date.now() < begun + 30_000)) {
      const id = await ask('tests.mint()');
      for (const used of [key, id]) {
        assert.equal(await ask('tests.pass($1)', [used]), PASSED);
        assert.equal(await ask('tests.is_valid($1)', [used]), true);
      }
      assert.equal(await ask('revoke_pat($1)', [id]), true);
      assert.equal(await ask('tests.pass($1)', [id]), REVOKED);
      if (writerWaits()) waits += 1;
    }
    assert.ok(waits > 0, 'no writer has waited');
    assert.equal(sql('select count(*) from pg_locks where not granted and pid <> all (select pid from pg_stat_activity where backend_type = \'supabase_pat writer\')'), '0');
    await holder.query('rollback');
    await written(key, {}, locked);
    await workerIsOk();
  });
}

test('who takes the tables from a writer at work is not ended for a deadlock', async () => {
  const where = createDatabase('taken_away');
  const key = mint(where);
  sql(`create function tests.take_time() returns trigger language plpgsql as $$
    begin
      perform pg_sleep(0.3);
      return null;
    end $$;
    create trigger take_time before delete on pat.events for each statement execute function tests.take_time()`, where);
  const holder = await connect('taken_away');
  assert.equal(pass(key, where), PASSED);
  await until(() => sql(`select pid from pg_stat_activity
    where backend_type = 'supabase_pat writer' and wait_event = 'PgSleep'`), 'a writer that sweeps');
  // In another order than the writer, as DROP EXTENSION may do it.
  await holder.query('begin; lock table pat.denied_tokens in access exclusive mode');
  await holder.query('lock table pat.events in access exclusive mode');
  await holder.query('drop trigger take_time on pat.events; commit');
  await holder.end();
  await workerIsOk();
  sql('drop database taken_away');
});

for (const [how, statement] of [
  ['revoked', (key) => `select revoke_pat('${key}')`],
  ['deleted', (key) => `delete from api_keys where id = '${key}'`],
]) {
  test(`a key is ${how} by a REPEATABLE READ transaction that is older than its last use`, async () => {
    const key = mint();
    assert.equal(pass(key), PASSED);
    const first = await written(key);
    const client = await connect();
    await client.query('begin isolation level repeatable read');
    await client.query('select from pat.api_keys');
    assert.equal(pass(key), PASSED);
    await written(key, {}, first);
    await client.query(statement(key));
    await client.query('commit');
    assert.match(pass(key), /^PT401/);
    assert.equal(isValid(key), 'f');
  });
}

test('old events and expired denied tokens are removed by the writer', async () => {
  const key = mint();
  const event = (name, age) => `('${name}', now() - interval '${age}')`;
  const token = (name, age) => `(sha256('${name}'), sha256('${name}'), '${name}', now() - interval '${age}')`;
  sql(`alter database postgres set "supabase_pat.event_retention" = '1h';
    insert into pat.events (event, happened_at) values ${event('old', '61 minutes')}, ${event('young', '59 minutes')};
    insert into pat.denied_tokens (message_digest, claims_digest, reason, expires_at)
    values ${token('long expired', '25 hours')}, ${token('just expired', '23 hours')}, ${token('good', '-1 hour')}`);
  const left = () => sql(`select string_agg(event, ',') from pat.events where event in ('old', 'young');
    select string_agg(reason, ',' order by reason) from pat.denied_tokens`);
  assert.equal(left(), 'old,young\ngood,just expired,long expired');
  assert.equal(pass(key), PASSED);
  await until(() => left() === 'young\ngood,just expired', 'a sweep');
  const time = now();
  assert.equal(pass(key), PASSED);
  await written(key, {}, time);
  assert.equal(left(), 'young\ngood,just expired');
  sql('alter database postgres reset "supabase_pat.event_retention"; delete from pat.denied_tokens');
});

test('the last use of a key that was deleted is forgotten, and no other', async () => {
  const [deleted, kept] = [mint(), mint()];
  for (const key of [deleted, kept]) {
    assert.equal(pass(key), PASSED);
    await written(key);
  }
  sql(`delete from api_keys where id = '${deleted}'`);
  const used = () => sql(`select count(*) from pat.api_key_usage where key_id in ('${deleted}', '${kept}')`);
  assert.equal(used(), '2');
  assert.equal(pass(kept), PASSED);
  await until(() => used() === '1', 'a sweep');
  assert.notEqual(lastUse(kept), '');
});

test('of 1500 requests at once by fifty connections, a limit of 1000 admits 1000', async () => {
  const key = mint({}, 1000);
  const fifty = await Promise.all(Array.from({ length: 50 }, () => connect()));
  const answers = await Promise.all(fifty.map(async (client) => {
    const mine = [];
    for (let call = 0; call < 30; call += 1) {
      mine.push((await client.query('select tests.pass($1) as answer', [key])).rows[0].answer);
    }
    return mine;
  }));
  const all = answers.flat();
  assert.equal(all.length, 1500);
  assert.equal(all.filter((answer) => answer === PASSED).length, 1000);
  assert.equal(all.filter((answer) => /^PGRST .*has used up its 1000 requests/.test(answer)).length, 500);
});

test('the gate stands on a standby too, and what it noted is written after a promotion', async () => {
  const [live, revoked, limited] = [mint(), mint(), mint({}, 3)];
  assert.equal(sql(`select revoke_pat('${revoked}')`), 't');
  const standby = await main.standby();
  others.push(standby);
  await main.caughtUp(standby);
  const there = { cluster: standby };
  assert.equal(sql('select pg_is_in_recovery()', there), 't');
  assert.equal(pass(live, there), PASSED);
  assert.equal(pass(revoked, there), REVOKED);
  assert.equal(isValid(revoked, there), 'f');
  const answers = [1, 2, 3, 4].map(() => pass(limited, there));
  assert.deepEqual(answers.slice(0, 3), [PASSED, PASSED, PASSED]);
  assert.match(answers[3], /^PGRST .*has used up its 3 requests/);
  await pause(1500);
  assert.equal(sql(`select count(*) from pg_stat_activity where backend_type like 'supabase_pat%'`, there), '0');
  assert.deepEqual(status('worker', there), { check: 'worker', ok: true, detail: 'starts when this standby is promoted' });
  assert.equal(lastUse(live, there), '');
  assert.equal(lastUse(live), '');

  const promoted = now(there);
  standby.control('promote');
  const used = await written(live, there);
  assert.ok(new Date(used) < new Date(promoted), `used at ${used}, promoted at ${promoted}`);
  assert.equal(sql(`select count(*) from pg_stat_activity where backend_type = 'supabase_pat launcher'`, there), '1');
  assert.match(pass(limited, there), /^PGRST/);
  assert.equal(pass(revoked, there), REVOKED);
  // The refusals have been noted, too.
  // Once more after the promotion, if that has been written by now.
  assert.match(await until(() => sql(`select requests || '/' || refused from pat.usage_by_day where key_id = '${limited}'`, there), 'the counts'), /^3\/[12]$/);
  assert.equal(await until(() => sql(`select string_agg(detail, ',' order by detail) from pat.events
    where event = 'refused' and key_id in ('${revoked}', '${limited}') and happened_at < '${promoted}'`, there), 'refusals'), 'revoked,too_many_requests');
  assert.doesNotMatch(readFileSync(standby.log, 'utf8'), /ERROR|PANIC/);
});

test('where there is no room for all keys, none gets more than its limit', async () => {
  const cluster = await Cluster.start({ settings: { ...SETTINGS, 'supabase_pat.tracked_keys': '64' } });
  others.push(cluster);
  const where = { cluster };
  sql(SETUP, where);
  assert.equal(status('room', where).ok, true);
  sql(`create table keys as select tests.mint(case when n % 3 > 0 then 3 end) as id, n % 3 > 0 as is_limited from generate_series(1, 450) n;
    create table answers (id uuid, answer text)`, where);
  const [limited, unlimited] = [true, false].map((is) => sql(`select id from keys where is_limited = ${is}`, where).split('\n'));
  assert.deepEqual([limited.length, unlimited.length], [300, 150]);
  const those = await Promise.all([1, 2, 3, 4].map(() => cluster.connect('postgres')));
  const passed = new Map();
  const refused = new Set();
  await Promise.all(those.map(async (client, number) => {
    for (let round = 0; round < 3; round += 1) {
      const { rows } = await client.query(`select id, is_limited, tests.pass(id) as answer
        from (select * from keys order by md5(id::text || ${number} || ${round})) crowd`);
      for (const { id, is_limited: isLimited, answer } of rows) {
        if (answer === PASSED) passed.set(id, (passed.get(id) ?? 0) + 1);
        else {
          assert.ok(isLimited, `an unlimited key: ${answer}`);
          refused.add(answer.replace(/^PGRST .*"message":"([^"]*)".*$/, '$1'));
        }
      }
    }
    await client.end();
  }));
  assert.deepEqual([...refused].sort(), [
    'the personal access token has used up its 3 requests in 82800 seconds',
    'there is no room to count the requests of the personal access token',
  ]);
  for (const id of unlimited) assert.equal(passed.get(id), 12);
  const counts = limited.map((id) => passed.get(id) ?? 0);
  assert.ok(Math.max(...counts) <= 3, `a key passed ${Math.max(...counts)} times`);
  // Each place went to one key, for the whole of its window; one user gets three quarters of each set of 16.
  assert.equal(counts.filter((count) => count === 3).length, 48);
  assert.equal(counts.filter((count) => count > 0).length, 48);
  assert.equal(passing(4, BOB, where), 4);
  const room = status('room', where);
  assert.equal(room.ok, false);
  assert.match(room.detail, /^\d+ uses were not noted: raise supabase_pat\.tracked_keys and restart$/);
});

const ALL_PLACES = 64;
const small = async () => {
  const cluster = await Cluster.start({ settings: { ...SETTINGS, 'supabase_pat.tracked_keys': String(ALL_PLACES) } });
  others.push(cluster);
  sql(SETUP, { cluster });
  return { cluster };
};

test('a dead token leaves its place to others, and no living one its count', async () => {
  const where = await small();
  const living = mint(where, 2);
  assert.deepEqual([1, 2].map(() => pass(living, where)), [PASSED, PASSED]);
  // Along every road on which a token dies, more of them than there are places.
  for (const [road, dies] of [
    ['revoked', 'perform revoke_pat(key)'],
    ['deleted', 'delete from pat.api_keys where id = key'],
    ['expired', `update pat.api_keys set expires_at = now() - interval '1 second' where id = key`],
    ['without a user', `delete from auth.users where id = owner`],
  ]) {
    assert.equal(sql(`do $$
      declare
        key uuid;
        owner uuid;
        answer text;
      begin
        for i in 1..${2 * ALL_PLACES} loop
          owner := gen_random_uuid();
          insert into auth.users (id, email) values (owner, owner || '@example.com');
          key := tests.mint_for(owner, 1);
          commit;
          answer := tests.pass(key);
          commit;
          if answer <> '${PASSED}' then
            raise exception '${road}: no place for the %. token: %', i, answer;
          end if;
          ${dies};
          commit;
        end loop;
      end $$; select 'done'`, where), 'done');
    assert.equal(passing(4, BOB, where), 4, road);
    sql(`delete from pat.api_keys where user_id = '${BOB}'`, where);
    assert.match(pass(living, where), /^PGRST .*has used up its 2 requests/);
  }
  assert.equal(status('room', where).ok, true);
});

test('a token that only this transaction has revoked keeps its place, and so does one whose user is banned', async () => {
  const where = await small();
  sql('create table kept as select null::uuid as id limit 0', where);
  // All places, for users enough.
  sql(`do $$
    declare
      key uuid;
      owner uuid;
      answer text;
    begin
      for i in 1..${20 * ALL_PLACES} loop
        owner := gen_random_uuid();
        insert into auth.users (id, email) values (owner, owner || '@example.com');
        key := tests.mint_for(owner, 1);
        commit;
        answer := tests.pass(key);
        commit;
        if answer = '${PASSED}' then
          insert into kept values (key);
        end if;
        commit;
      end loop;
    end $$`, where);
  assert.equal(sql('select count(*) from kept', where), String(ALL_PLACES));
  const NO_ROOM = /^PGRST .*there is no room/;
  const late = sql(`select tests.mint_for('${BOB}', 1)`, where);
  const client = await where.cluster.connect('postgres');
  await client.query('begin; update pat.api_keys set revoked_at = now() where id in (select id from kept)');
  const { rows: [{ answer }] } = await client.query('select tests.pass($1) as answer', [late]);
  assert.match(answer, NO_ROOM);
  await client.query('rollback');
  await client.end();
  sql(`update auth.users set banned_until = now() + interval '1 hour' where id in (select user_id from tests.owners join kept using (id))`, where);
  assert.match(pass(late, where), NO_ROOM);
  sql(`update auth.users set banned_until = null`, where);
  assert.equal(sql(`select count(*) from kept where tests.pass(id) ~ 'has used up its 1 requests'`, where), String(ALL_PLACES));
});

test('a thousand dead tokens of one user hide no refusal of anybody else, and write a few rows', async () => {
  const where = createDatabase('refusing');
  sql(`create table dead as select tests.mint() as id from generate_series(1, 1500);
    update pat.api_keys set revoked_at = now()`, where);
  const other = sql(`select tests.mint_for('${BOB}')`, where);
  sql(`update pat.api_keys set revoked_at = now() where id = '${other}'`, where);
  sql(`select count(tests.pass(id)) from dead; select tests.pass('${other}'); select tests.pass(gen_random_uuid())`, where);
  const rows = await until(() => {
    const found = JSON.parse(sql(`select coalesce(json_agg(e), '[]') from (
      select detail, user_id, key_id is not null as names_a_token, count(*) as rows, sum(count) as refusals
      from pat.events where event = 'refused' group by 1, 2, 3 order by 1, 2, 3) e`, where));
    return found.length >= 4 && found.reduce((sum, { refusals }) => sum + refusals, 0) === 1502 && found;
  }, 'all refusals in the table');
  // In one interval or in two.
  const alices = rows.filter(({ user_id: user }) => user === ALICE);
  assert.ok(alices.reduce((sum, { rows: count }) => sum + count, 0) <= 2 * 17, JSON.stringify(rows));
  assert.equal(alices.reduce((sum, { refusals }) => sum + refusals, 0), 1500);
  assert.deepEqual(rows.filter(({ user_id: user }) => user !== ALICE), [
    { detail: 'revoked', user_id: BOB, names_a_token: true, rows: 1, refusals: 1 },
    { detail: 'unknown_token', user_id: null, names_a_token: false, rows: 1, refusals: 1 },
  ].sort((a, b) => (a.detail < b.detail ? -1 : 1)));
  // Of thousands of users, all are counted.
  sql('truncate pat.events', where);
  sql(`with users as (insert into auth.users (id, email) select u, u || '@example.com' from (select gen_random_uuid() as u from generate_series(1, 1200)) made returning id)
    insert into pat.api_keys (id, user_id, name, expires_at, revoked_at) select gen_random_uuid(), id, 'x', now() + interval '1 day', now() from users`, where);
  sql(`insert into tests.owners select id, user_id from pat.api_keys on conflict do nothing`, where);
  sql(`select count(tests.pass(id)) from pat.api_keys where name = 'x'; select tests.pass('${other}')`, where);
  assert.ok(await until(() => sql(`select sum(count) = 1201 and count(*) <= 1024 from pat.events where event = 'refused'`, where) === 't', 'all of them'));
  sql('drop database refusing');
});

test('tokens that were named in earlier intervals do not come on top of the sixteen of this one', async () => {
  const where = createDatabase('naming');
  sql(`create table dead as select n, tests.mint_for(case when n <= 16 then '${BOB}' else '${ALICE}' end::uuid) as id from generate_series(1, 48) n;
    update pat.api_keys set revoked_at = now()`, where);
  let refusals = 0;
  // Bob's tokens leave the first places, which others of Alice's take.
  for (const [from, to] of [[1, 32], [33, 48], [17, 48]]) {
    refusals += to - from + 1;
    sql(`select count(tests.pass(id)) from dead where n between ${from} and ${to}`, where);
    await until(() => sql("select sum(count) from pat.events where event = 'refused'", where) === String(refusals), 'all refusals in the table');
  }
  const named = `select max(tokens) from (select count(key_id) as tokens from pat.events where event = 'refused' group by xmin, user_id) written`;
  assert.equal(sql(named, where), '16');
  sql('drop database naming');
});

test('the doctor goes by the requests that were seen in this database', async () => {
  const where = createDatabase('asked');
  sql(`alter role authenticator set pgrst.db_pre_request = 'pat.gate'`, where);
  try {
    assert.deepEqual(status('gate', where).ok, true, 'while no token depends on it');
    const [limited, opaque] = [mint(where, 5), sql(`select id from mint_pat('${ALICE}', 'x', kind => 'opaque')`, where)];
    assert.match(opaque, /^[0-9a-f-]{36}$/);
    // Where the guard stands, nobody may have asked yet.
    const idle = status('gate', where);
    assert.equal(idle.ok, true);
    assert.match(idle.detail, /^no request in this database since the server started at .*\. If there is traffic, name the login it comes from in /);
    sql(`alter database asked set supabase_pat.guarded_logins = ''`);
    const missing = status('gate', where);
    assert.equal(missing.ok, false);
    assert.match(missing.detail, /^no request has been judged in this database since the server started, though db-pre-request is pat\.gate, which not every REST server reads\./);
    assert.match(missing.detail, /these are refused: opaque tokens \(1\), tokens with allowed_ips \(0\), tokens with a limit \(1\), tokens with scopes \(0\)\./);
    // By hand is no request, and other databases are others.
    sql('select pat.gate()', where);
    assert.equal(status('gate', where).ok, false);
    assert.equal(pass(limited, where), PASSED);
    const seen = status('gate', where);
    assert.equal(seen.ok, true);
    assert.match(seen.detail, /^1 requests in this database since the server started; the last at /);
    // Each login that is named is to be one.
    sql(`alter database asked set supabase_pat.guarded_logins = '"authenticator",Authenticator, storage_admn'`);
    assert.deepEqual(status('guard', where), {
      check: 'guard', ok: false, detail: 'there is no login storage_admn: name the login of the REST server in supabase_pat.guarded_logins',
    });
  } finally {
    sql('alter role authenticator reset pgrst.db_pre_request');
    sql('drop database asked');
  }
});

test('without preloading, limits count for each connection and nothing is noted', async () => {
  const cluster = await Cluster.start({ settings: { autovacuum: 'off' } });
  others.push(cluster);
  const where = { cluster };
  sql(`alter database postgres set "app.settings.jwt_secret" = '${SECRET}'`, where);
  sql(SETUP, where);
  const [live, revoked, limited] = [mint(where), mint(where), mint(where, 2)];
  assert.equal(sql(`select revoke_pat('${revoked}')`, where), 't');
  assert.equal(pass(live, where), PASSED);
  assert.equal(pass(revoked, where), REVOKED);
  for (let connection = 0; connection < 2; connection += 1) {
    const answers = sql([1, 2, 3].map(() => `select tests.pass('${limited}');`).join(''), where).split('\n');
    assert.deepEqual(answers.slice(0, 2), [PASSED, PASSED]);
    assert.match(answers[2], /^PGRST .*has used up its 2 requests/);
  }
  const library = status('library', where);
  assert.equal(library.ok, false);
  assert.match(library.detail, /^not preloaded: last_used_at stays null, limits count for each connection by itself/);
  assert.equal(status('worker', where), null);
  assert.equal(sql(`select count(*) from pg_stat_activity where backend_type like 'supabase_pat%'`, where), '0');
  assert.equal(lastUse(live, where), '');
  assert.equal(sql(`select count(*) from pat.events where event = 'refused'`, where), '0');
});
