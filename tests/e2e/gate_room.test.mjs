// The memory in which the gate counts: room for a hundred thousand tokens, which grows with use and shrinks again.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster } from '../cluster/cluster.mjs';
import { SECRET } from './fixture.mjs';

const TOKENS = 100_000;
const LIMIT = 2;
/** Of one user: fewer than `supabase_pat.max_keys_per_user`. */
const TOKENS_OF_A_USER = 40;

// Requests as the REST server makes them, up to the pre-request function. What comes of a request is 200, or the status
// in the answer of the gate.
const SETUP = `
  create extension supabase_pat;
  select pat.install_auth_schema();
  create schema tests;
  grant usage on schema tests to public;
  create table tests.keys (n integer primary key, id uuid not null, owner uuid not null);
  grant select on tests.keys to public;

  create function tests.fill(name text, many integer, per_user integer, rate_limit integer, rate_window interval) returns void
      language sql as $$
    with minted as (
      select n, gen_random_uuid() as id, md5(name || n / per_user)::uuid as owner
      from generate_series((select coalesce(max(n), -1) + 1 from tests.keys), (select coalesce(max(n), -1) + many from tests.keys)) n
    ), users as (
      insert into auth.users (id, email) select distinct owner, owner || '@example.com' from minted on conflict do nothing
    ), known as (
      insert into tests.keys select * from minted
    )
    insert into pat.api_keys (id, user_id, name, expires_at, rate_limit, rate_window)
    select id, owner, name, now() + interval '60 days', rate_limit,
      case when rate_limit is not null then rate_window end from minted
  $$;

  create function tests.ask(key uuid, owner uuid) returns text language plpgsql as $$
  begin
    perform set_config('request.method', 'GET', true), set_config('request.path', '/todos', true),
      set_config('request.headers', '{}', true), set_config('role', 'authenticated', true),
      set_config('request.jwt.claims', jsonb_build_object('role', 'authenticated', 'sub', owner,
        'type', 'personal_access_token', 'jti', key)::text, true);
    perform pat.gate();
    return '200';
  exception when others then
    return substring(sqlerrm from '"message":"([^"]*)"');
  end
  $$;

  create function tests.answers(from_key integer, to_key integer) returns table (answer text, count bigint) language sql as $$
    select tests.ask(id, owner), count(*) from tests.keys where n between from_key and to_key group by 1 order by 2 desc
  $$;
`;

const USED_UP = /^the personal access token has used up its \d+ requests in /;
const NO_ROOM = 'there is no room to count the requests of the personal access token';

const clusters = [];
async function start(settings) {
  const cluster = await Cluster.start({ settings: {
    shared_preload_libraries: 'supabase_pat', 'supabase_pat.jwt_secret': SECRET, 'supabase_pat.flush_interval': '1',
    'supabase_pat.event_retention': '1d', fsync: 'off', max_wal_size: '4GB', ...settings,
  } });
  clusters.push(cluster);
  cluster.psql('postgres', SETUP);
  return cluster;
}
after(() => { for (const cluster of clusters) cluster.stop(); });

async function until(condition, what, seconds = 30) {
  for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; await sleep(100)) {
    const answer = await condition();
    if (answer) return answer;
  }
  throw new Error(`after ${seconds} seconds not yet: ${what}`);
}

/** A session that adds up its answers to the keys of these numbers, from 0 on. */
async function session(cluster) {
  const client = await cluster.connect('postgres');
  const { rows: [{ pid }] } = await client.query('select pg_backend_pid() as pid');
  const ask = async (from, to) => {
    const { rows } = await client.query('select * from tests.answers($1, $2)', [from, to]);
    const answers = {};
    for (const { answer, count } of rows) {
      const name = USED_UP.test(answer) ? 'used up' : answer === NO_ROOM ? 'no room' : answer;
      answers[name] = (answers[name] ?? 0) + Number(count);
    }
    return answers;
  };
  return { client, pid, ask };
}

/** How much of the server's shared memory exists, as far as a process has touched it, in kB. */
const sharedMemory = (pid) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/^RssShmem:\s+(\d+) kB$/m)[1]);
const lost = (cluster) => Number(cluster.psql('postgres', 'select lost from pat.server_state()'));
const unwritten = (cluster, condition = 'true') => Number(cluster.psql('postgres', `
  select count(*) from tests.keys where ${condition} and id not in (select key_id from pat.api_key_usage)`));

let cluster;
before(async () => { cluster = await start({}); });

test('with a hundred thousand limited tokens in use at once, each has its allowance and no more', async (t) => {
  cluster.psql('postgres', `select tests.fill('many', ${TOKENS}, ${TOKENS_OF_A_USER}, ${LIMIT}, '23 hours'); analyze`);
  // Two sessions, each of which asks for all of the tokens, at the same time.
  const sessions = await Promise.all([session(cluster), session(cluster)]);
  const beganAt = performance.now();
  const first = await Promise.all(sessions.map(({ ask }) => ask(0, TOKENS - 1)));
  const took = performance.now() - beganAt;
  assert.deepEqual(first, [{ 200: TOKENS }, { 200: TOKENS }]);
  const again = performance.now();
  assert.deepEqual(await sessions[0].ask(0, TOKENS - 1), { 'used up': TOKENS });
  t.diagnostic(`${took / TOKENS * 500} µs a request, then ${(performance.now() - again) * 1000 / TOKENS}`);
  await Promise.all(sessions.map(({ client }) => client.end()));
  await until(() => unwritten(cluster) === 0, 'all uses in the table');
  assert.equal(lost(cluster), 0);
});

/** The launcher looks at all places every second, and at hardly anything else in shared memory. */
function launcherOf(where) {
  const pid = Number(where.psql('postgres', `select pid from pg_stat_activity where backend_type = 'supabase_pat launcher'`));
  return () => sharedMemory(pid);
}

test('memory grows with use, and is given back once windows are over and uses are written', async () => {
  const few = [60_000, 60_019];
  const where = await start({});
  where.psql('postgres', `select tests.fill('short', 60000, ${TOKENS_OF_A_USER}, 3, '5 seconds');
    select tests.fill('long', 20, ${TOKENS_OF_A_USER}, 3, '23 hours')`);
  const { client, ask } = await session(where);
  assert.deepEqual(await ask(...few), { 200: 20 });
  await sleep(2500);
  const memory = launcherOf(where);
  const before = memory();
  const asked = ask(0, 59_999);
  // The launcher sees it at its next look, a second later at most. On a slow machine it gives back what was used more
  // than five seconds ago while the rest is still to come.
  await until(() => memory() > before + 3000, `more than 3000 kB beyond ${before}`);
  assert.deepEqual(await asked, { 200: 60_000 });
  await until(() => unwritten(where) === 0, 'all uses in the table');
  await until(() => memory() < before + 200, `less than 200 kB more than ${before}`);
  // Those whose window goes on have kept their counts, wherever in memory they are by now.
  assert.deepEqual(await ask(...few), { 200: 20 });
  assert.deepEqual(await ask(...few), { 200: 20 });
  assert.deepEqual(await ask(...few), { 'used up': 20 });
  assert.deepEqual(await ask(0, 59_999), { 200: 60_000 });
  assert.equal(lost(where), 0);
  await client.end();
});

test('a count is exact while its place is being moved', async () => {
  const [SHORT, BUSY, REQUESTS] = [15_000, 20, 3000];
  const where = await start({});
  where.psql('postgres', `select tests.fill('short', ${SHORT}, ${TOKENS_OF_A_USER}, 3, '1 second');
    select tests.fill('busy', ${3 * BUSY}, ${TOKENS_OF_A_USER}, ${REQUESTS}, '23 hours')`);
  const sessions = await Promise.all([1, 2].map(() => session(where)));
  const memory = launcherOf(where);
  for (let round = 0; round < 3; round += 1) {
    const busy = [SHORT + round * BUSY, SHORT + (round + 1) * BUSY - 1];
    // The busy ones get their places among many others, which go while they are in use.
    assert.deepEqual(await sessions[0].ask(0, SHORT - 1), { 200: SHORT });
    let admitted = 0;
    let isShrunk = false;
    await Promise.all([
      ...sessions.map(async ({ ask }) => {
        for (let usedUp = 0; usedUp < BUSY || !isShrunk;) {
          const answers = await ask(...busy);
          admitted += answers[200] ?? 0;
          usedUp = answers['used up'] ?? 0;
        }
      }),
      until(() => memory() < 2500, 'memory is returned').finally(() => { isShrunk = true; }),
    ]);
    assert.equal(admitted, BUSY * REQUESTS);
  }
  assert.equal(lost(where), 0);
  await Promise.all(sessions.map(({ client }) => client.end()));
});

test('where memory has reached its limit, nobody has more than the allowance, and no place is taken from anybody', async () => {
  const ROOM = 4096;
  const where = await start({ 'supabase_pat.tracked_keys': String(ROOM) });
  // First tokens that are there already, then more than there is room for, of users enough, from four sessions.
  where.psql('postgres', `select tests.fill('early', 500, ${TOKENS_OF_A_USER}, ${LIMIT}, '23 hours');
    select tests.fill('late', 5500, ${TOKENS_OF_A_USER}, ${LIMIT}, '23 hours');
    select tests.fill('unlimited', 500, ${TOKENS_OF_A_USER}, null, null)`);
  const [early, late, unlimited] = [[0, 499], [500, 5999], [6000, 6499]];
  const sessions = await Promise.all([1, 2, 3, 4].map(() => session(where)));
  const [{ ask }] = sessions;
  assert.deepEqual(await ask(...early), { 200: 500 });
  const answers = await Promise.all(sessions.map((one) => one.ask(...late)));
  const sum = (name) => answers.reduce((all, answer) => all + (answer[name] ?? 0), 0);
  assert.equal(sum('200') + sum('used up') + sum('no room'), 4 * 5500);
  assert.equal(sum('used up'), sum('200'), 'who has a place has two of four requests');
  // All that there is room for, but for some places in sets that have no more tokens.
  assert.ok(sum('200') > LIMIT * (ROOM - 500) * 0.9 && sum('200') <= LIMIT * (ROOM - 500), String(sum('200')));
  assert.deepEqual(await ask(...early), { 200: 500 });
  assert.deepEqual(await ask(...early), { 'used up': 500 });
  assert.deepEqual(await ask(...unlimited), { 200: 500 });
  assert.ok(lost(where) > 0);
  const room = where.psql('postgres', `select ok, detail from pat.status() where "check" = 'room'`);
  assert.match(room, /^f\|\d+ uses were not noted: raise supabase_pat\.tracked_keys and restart$/);
  // Whoever dies leaves the place to others, and the memory with it.
  where.psql('postgres', `delete from pat.api_keys where id in (select id from tests.keys where n between 500 and 5999);
    select tests.fill('new', 2000, ${TOKENS_OF_A_USER}, ${LIMIT}, '23 hours')`);
  assert.deepEqual(await ask(6500, 8499), { 200: 2000 });
  assert.deepEqual(await ask(...early), { 'used up': 500 });
  await Promise.all(sessions.map(({ client }) => client.end()));
});

test('a database that is dropped leaves its room to others', async () => {
  const where = await start({ 'supabase_pat.tracked_keys': '128' });
  where.psql('postgres', `create database other; select tests.fill('here', 100, ${TOKENS_OF_A_USER}, ${LIMIT}, '23 hours')`);
  where.psql('other', `${SETUP} select tests.fill('there', 1000, ${TOKENS_OF_A_USER}, ${LIMIT}, '23 hours')`);
  assert.match(where.psql('other', 'select * from tests.answers(0, 999)'), /^there is no room/);
  const { client, ask } = await session(where);
  assert.ok((await ask(0, 99))['no room'] > 0);
  // A use that has been written does not tell the launcher of the database.
  await until(() => where.psql('other', 'select count(*) from pat.api_key_usage') > 0, 'uses are written');
  where.psql('postgres', 'drop database other with (force)');
  await until(async () => !(await ask(0, 99))['no room'], 'there is room');
  await client.end();
});

test('one user with any number of tokens leaves room for others', async () => {
  const where = await start({ 'supabase_pat.tracked_keys': '2048', 'supabase_pat.max_keys_per_user': '100000' });
  where.psql('postgres', `select tests.fill('one', 5000, 1000000, ${LIMIT}, '23 hours');
    select tests.fill('others', 300, 1, ${LIMIT}, '23 hours')`);
  const { client, ask } = await session(where);
  const { 200: admitted } = await ask(0, 4999);
  assert.equal(admitted, 2048 * 3 / 4);
  assert.deepEqual(await ask(5000, 5299), { 200: 300 });
  assert.deepEqual(await ask(5000, 5299), { 200: 300 });
  assert.deepEqual(await ask(5000, 5299), { 'used up': 300 });
  await client.end();
});
