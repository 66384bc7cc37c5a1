// Functions that are marked PARALLEL SAFE answer in a worker as they do in the leader, and the others stay with the leader.
import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import { Cluster } from '../cluster/cluster.mjs';
import { become, calls, prepare, SETTINGS } from './calls.mjs';
import { ALICE, BOB } from './fixture.mjs';

let cluster;
let client;
let all;

before(async () => {
  cluster = await Cluster.start({
    settings: { ...SETTINGS, max_parallel_workers: 4, max_worker_processes: 12, 'supabase_pat.enable_sign_up': 'off' },
  });
  all = calls(prepare(cluster));
  cluster.psql('postgres', `
    create table notes as select i as i, case when i % 2 = 0 then '${ALICE}'::uuid else '${BOB}' end as user_id, 'x' as body
      from generate_series(1, 20000) i;
    alter table notes enable row level security;
    create policy "own notes" on notes using (pat.uid() = user_id and is_valid_api_token() and is_active_session());
    create policy "scopes" on notes as restrictive using (has_scope('todos:read'));
    grant select on notes to public;
    analyze notes;
    alter database postgres set parallel_setup_cost = 0;
    alter database postgres set parallel_tuple_cost = 0;
    alter database postgres set min_parallel_table_scan_size = 0`);
  client = await cluster.connect('postgres');
});

after(async () => {
  await client?.end();
  cluster?.stop();
});

const rows = async (sql) => (await client.query({ text: sql, rowMode: 'array' })).rows;
const named = (name) => all.find((call) => call.name === name);

/** Whether what follows runs in workers alone, as far as it may. Postgres 16 gave the setting another name. */
async function inWorkers(on) {
  const [[name]] = await rows("select name from pg_settings where name in ('force_parallel_mode', 'debug_parallel_query')");
  await client.query('reset role');
  await client.query(`set ${name} = ${on ? 'on' : 'off'}; set parallel_leader_participation = ${on ? 'off' : 'on'};
    set max_parallel_workers_per_gather = ${on ? 2 : 0}`);
}

async function explained(sql) {
  return (await rows(`explain (analyze, costs off, timing off, summary off) ${sql}`)).join('\n');
}

/** What a call says in the leader and in workers, once a row. */
async function inBoth(call) {
  const sql = `select distinct (${call.sql})::text from notes_to_read where i <= 10`;
  const found = [];
  for (const on of [false, true]) {
    await inWorkers(on);
    await become(client, call);
    const plan = await explained(sql);
    found.push({ workers: Number(/Workers Launched: (\d)/.exec(plan)?.[1] ?? 0), answers: (await rows(sql)).sort() });
  }
  await client.query('reset role');
  return found;
}

/** Functions whose answers tell the time, or are random. */
const CHANGES = /session_info|jwt_expires_in|mint_api_key|sign_jwt|exchange_token/;

test('what is safe runs in workers and says the same there, and what is restricted or writes does not run there', async () => {
  cluster.psql('postgres', 'create table notes_to_read as select i from notes; grant select on notes_to_read to public; analyze notes_to_read');
  const { rows: marks } = await client.query(`
    select distinct p.proname as name, p.proparallel as mark from pg_proc p
    where p.pronamespace in ('pat'::regnamespace, 'public'::regnamespace)`);
  const markOf = (call) => {
    const names = [...call.sql.matchAll(/(?<![\w.])(?:pat\.)?(\w+)\(/g)].map(([, name]) => name);
    return marks.find((mark) => names.includes(mark.name)).mark;
  };
  const seen = {};
  // What sets claims stays with the leader, whatever else it calls.
  const read = all.filter(({ raises, writes, name }) => !raises && !writes && !/gate|none|refused|another request/.test(name));
  for (const call of read) {
    const mark = markOf(call);
    const [leader, worker] = await inBoth(call);
    assert.equal(leader.workers, 0, call.name);
    assert.equal(worker.workers > 0, mark === 's' || mark === 'r', `${call.name} is ${mark}, and ${worker.workers} workers ran`);
    if (!CHANGES.test(call.name)) assert.deepEqual(worker.answers, leader.answers, call.name);
    (seen[mark] ??= []).push(call.name);
  }
  assert.deepEqual(Object.keys(seen).sort(), ['r', 's', 'u']);
});

const COUNT = 'select count(*)::int, min(body) from notes';

test('policies let through the same rows in workers', async () => {
  for (const [name, expected] of [['is_valid_api_token, token', 10000], ['is_active_session, login', 10000], ['has_scope', 10000], ['pat.gate, anon', 0], ['pat.gate, refused: revoked', 0]]) {
    for (const on of [false, true]) {
      await inWorkers(on);
      await become(client, named(name));
      assert.equal((await rows(COUNT))[0][0], expected, `${name}, ${on}`);
      if (on) assert.match(await explained(COUNT), /Workers Launched: [12]\n/, name);
    }
  }
  await client.query('reset role');
});

test('workers know whom the gate has made the request\'s user', async () => {
  await inWorkers(true);
  for (const [name, expected] of [['pat.gate, opaque token', 10000], ['pat.gate, JWT', 10000], ['pat.gate, anon', 0]]) {
    await become(client, named(name));
    await client.query('begin; select pat.gate()');
    assert.match(await explained(COUNT), /Workers Launched: [12]\n/, name);
    assert.equal((await rows(COUNT))[0][0], expected, name);
    const [[uid]] = await rows('select distinct pat.uid() from notes_to_read');
    assert.equal(uid, expected ? ALICE : null, name);
    await client.query('rollback');
  }
  await client.query('reset role');
});

test('workers know which token the gate has let through', async () => {
  const call = named('is_valid_api_token, token');
  const { jti } = JSON.parse(call.settings['request.jwt.claims']);
  await client.query('reset role');
  await client.query(`update pat.api_keys set rate_limit = 1000, rate_window = '31 days' where id = $1`, [jti]);
  try {
    await inWorkers(true);
    await become(client, call);
    assert.equal((await rows(COUNT))[0][0], 0);
    await client.query(`begin; savepoint a; select pat.gate()`);
    assert.match(await explained(COUNT), /Workers Launched: [12]\n/);
    assert.equal((await rows(COUNT))[0][0], 10000);
    await client.query('rollback to a');
    assert.equal((await rows(COUNT))[0][0], 0);
    await client.query('select pat.gate(); commit');
    assert.equal((await rows(COUNT))[0][0], 0);
  } finally {
    await client.query('rollback; reset role');
    await client.query('update pat.api_keys set rate_limit = null, rate_window = null where id = $1', [jti]);
  }
});

test('workers see claims that the transaction has set, and what it has revoked', async () => {
  await inWorkers(true);
  const call = named('is_valid_api_token, token');
  await become(client, { ...call, settings: { 'request.jwt.claims': '' } });
  await client.query('begin');
  await client.query("select set_config('request.jwt.claims', $1, true)", [call.settings['request.jwt.claims']]);
  assert.equal((await rows(COUNT))[0][0], 10000);
  await client.query("savepoint a; select revoke_pat(current_api_key_id())");
  assert.match(await explained(COUNT), /Workers Launched: [12]\n/);
  assert.equal((await rows(COUNT))[0][0], 0);
  await client.query('rollback to a');
  assert.equal((await rows(COUNT))[0][0], 10000);
  await client.query("select set_config('request.jwt.claims', '{}', true)");
  assert.equal((await rows(COUNT))[0][0], 0);
  await client.query('rollback; reset role');
});
