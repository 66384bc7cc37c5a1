// What pat.metrics() tells a monitoring system: the real postgres_exporter, with packaging/queries.yml.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { freePort } from '../cluster/cluster.mjs';
import { ALICE } from './fixture.mjs';
import { eventually, open } from './gate_world.mjs';

const QUERIES = fileURLToPath(new URL('../../packaging/queries.yml', import.meta.url));

let world;
let exporter;
let url;
before(async () => {
  world = await open({ sql: `create role monitor login in role pg_monitor` });
  await world.rows(`alter role monitor password '${world.cluster.password}'`);
  const port = await freePort();
  exporter = spawn('prometheus-postgres-exporter', [
    `--web.listen-address=127.0.0.1:${port}`, `--extend.query-path=${QUERIES}`, '--disable-default-metrics', '--disable-settings-metrics',
    // It asks for columns that Postgres 17 no longer has.
    '--no-collector.bgwriter',
  ], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env.PATH, DATA_SOURCE_NAME: `${world.cluster.url('postgres', 'monitor', world.cluster.password)}?sslmode=disable` },
  });
  exporter.output = '';
  exporter.stderr.on('data', (chunk) => { exporter.output += chunk; });
  exporter.on('error', (error) => { exporter.output += `${error}: scripts/setup installs it\n`; });
  url = `http://127.0.0.1:${port}/metrics`;
  await eventually(() => fetch(url).then(({ ok }) => ok, () => false), 10).catch(() => assert.fail(exporter.output));
});
after(async () => {
  exporter?.kill();
  await world?.close();
});

/** What the exporter tells of ours: descriptions, kinds, and values by name and labels. */
async function scrape() {
  const text = await (await fetch(url)).text();
  const help = {};
  const kinds = {};
  const values = {};
  for (const line of text.split('\n').filter((one) => /^(# \w+ )?supabase_pat_/.test(one))) {
    const told = line.match(/^# (HELP|TYPE) (\S+) (.*)$/);
    if (told) {
      (told[1] === 'HELP' ? help : kinds)[told[2]] = told[3];
      continue;
    }
    const [, name, labels = '', value] = line.match(/^(\w+)(?:\{(.*)\})? (\S+)$/);
    const own = labels.split(',').filter((label) => label && !label.startsWith('server=')).join();
    values[`${name}{${own}}`] = Number(value);
  }
  return { help, kinds, values };
}

/** The same as the function tells it. */
async function told(client = world) {
  const rows = await client.rows('select name, kind, help, labels, value from pat.metrics()');
  const of = (column) => Object.fromEntries(rows.map((row) => [row.name, row[column]]));
  const values = Object.fromEntries(rows.map(({ name, labels, value }) => [
    `${name}{${Object.entries(labels).map(([label, text]) => `${label}=${JSON.stringify(text)}`).join()}}`, value]));
  return { help: of('help'), kinds: of('kind'), values };
}

/** Those that are the same a moment later. */
const still = (values) => Object.fromEntries(Object.entries(values).filter(([name]) => !/_age_seconds/.test(name)));

test('postgres_exporter tells all of it, by the same names, kinds and descriptions', async () => {
  const { id, send } = await world.mint(ALICE, { limit: 2 });
  const dead = await world.mint(ALICE, { kind: 'opaque' });
  await world.rows('select revoke_pat($1)', [dead.id]);
  for (const status of [200, 200, 429, 429, 429]) assert.equal((await world.ask('GET', '/todos', send)).status, status);
  assert.equal((await world.ask('GET', '/todos', dead.send)).status, 401);
  assert.equal((await world.ask('GET', '/todos', { token: await world.login(ALICE) })).status, 200);
  await world.rows('select pat.rotate_signing_key(pat.add_signing_key())');
  await world.rows('select request_password_reset($1)', ['alice@example.com']);
  await world.rows('analyze pat.api_keys');
  await world.rows('analyze pat.sessions');
  await eventually(() => world.value('select requests = 2 and refused = 3 from pat.api_key_usage where key_id = $1', [id]).catch(() => false));
  // Places are given back, and events come, for a while.
  let ours;
  let theirs;
  await eventually(async () => {
    [ours, theirs] = [await told(), await scrape()];
    return JSON.stringify(Object.entries(still(ours.values)).sort()) === JSON.stringify(Object.entries(still(theirs.values)).sort());
  }, 10).catch(() => assert.deepEqual(still(theirs.values), still(ours.values)));
  assert.deepEqual(theirs.kinds, ours.kinds);
  assert.deepEqual(theirs.help, ours.help);
  assert.deepEqual(Object.keys(theirs.values).sort(), Object.keys(ours.values).sort());
  for (const [name, value] of Object.entries(theirs.values).filter(([one]) => /_age_seconds/.test(one))) {
    assert.ok(value >= 0 && Math.abs(value - ours.values[name]) < 5, `${name}: ${value}, ${ours.values[name]}`);
  }
  const value = (name) => theirs.values[`supabase_pat_${name}`];
  assert.equal(value('requests_total{}'), 7);
  assert.equal(value('refusals_total{reason="too_many_requests"}'), 3);
  assert.equal(value('refusals_total{reason="revoked"}'), 1);
  assert.equal(value('refusals_total{reason="denied"}'), 0);
  assert.equal(value('lost_uses_total{}'), 0);
  assert.equal(value('worker_running{}'), 1);
  assert.equal(value('tokens{state="revoked"}'), 1);
  assert.equal(value('signing_keys{status="current"}'), 1);
  assert.equal(value('outbox_messages{}'), 1);
  assert.equal(value('recent_events{event="refused"}'), 4);
  assert.ok(value('flush_age_seconds{}') < 5 && value('signing_key_age_seconds{}') < 60 && value('outbox_oldest_age_seconds{}') < 60);
  assert.ok(value('tracked_tokens{}') >= 16 && value('tracked_tokens_max{}') === 524_288);
  assert.doesNotMatch(exporter.output, /level=(error|warn)/);
});

test('a worker that is behind shows', async () => {
  const holder = await world.cluster.connect('postgres');
  await holder.query('begin; lock table pat.api_key_usage in access exclusive mode');
  const { send } = await world.mint(ALICE, { kind: 'opaque' });
  assert.equal((await world.ask('GET', '/todos', send)).status, 200);
  await eventually(async () => (await scrape()).values['supabase_pat_flush_age_seconds{}'] > 3, 15);
  await holder.query('rollback');
  await holder.end();
  await eventually(async () => (await scrape()).values['supabase_pat_flush_age_seconds{}'] < 2, 15);
});

test('it costs the same with a hundred thousand tokens', async (t) => {
  const client = await world.cluster.connect('postgres', 'monitor');
  const cost = async () => {
    const { rows: [{ took }] } = await client.query(`select extract(epoch from clock_timestamp() - statement_timestamp()) * 1000 as took
      from (select count(*) from generate_series(1, 20), lateral (select count(value) from pat.metrics() where generate_series > 0 offset 0) once) many`);
    return Number(took) / 20;
  };
  await cost();
  const few = await cost();
  await world.rows(`insert into pat.api_keys (id, user_id, name, expires_at)
    select gen_random_uuid(), $1, 'many', now() + interval '1 year' from generate_series(1, 100000)`, [ALICE]);
  await world.rows('analyze pat.api_keys');
  const values = await told({ rows: async (sql) => (await client.query(sql)).rows });
  assert.ok(values.values['supabase_pat_tokens{state="not_revoked"}'] > 90_000);
  const much = await cost();
  t.diagnostic(`${few} ms, then ${much}`);
  assert.ok(much < few * 5 + 2, `${few} ms, then ${much}`);
  await client.end();
});

test('the alerts in the documentation name what there is', async () => {
  const page = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
  const [, rules] = page.match(/^```yaml\n(groups:.*?)^```/ms);
  const { help } = await told();
  const named = new Set(rules.match(/\bsupabase_pat_[a-z_]+\b/g));
  assert.ok(named.size >= 6, [...named].join());
  for (const name of named) assert.ok(name in help, name);
});
