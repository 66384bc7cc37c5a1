// Sessions that are ended at any moment, whatever they are doing, harm nobody else.
import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { Cluster } from '../cluster/cluster.mjs';
import { become, calls, prepare, SETTINGS } from './calls.mjs';
import { ALICE } from './fixture.mjs';
import { eventually } from './gate_world.mjs';

const SECONDS = Number(process.env.SECONDS ?? 30);
const CLIENTS = 8;

let cluster;
let tokens;
let all;

before(async () => {
  cluster = await Cluster.start({ settings: { ...SETTINGS, 'supabase_pat.flush_interval': 1, log_min_messages: 'warning' } });
  tokens = prepare(cluster);
  all = calls(tokens);
});

after(() => cluster?.stop());

/** What a session that was ended says, or what follows for its client. */
const ENDED = ['57P01', '57014', 'ECONNRESET', 'EPIPE', undefined];
/** What clients that change the same things at once may be told: they wait in circles, or come too late. */
const IN_EACH_OTHERS_WAY = ['40P01', '40001', '55000', '42704', '25P02'];

/** Makes any calls, each in some transaction or other, until `until`; connects anew when it was thrown out. */
async function work(until, done, errors) {
  while (Date.now() < until) {
    const client = new pg.Client({ host: cluster.folder, port: cluster.port, user: 'postgres', database: 'postgres' });
    client.on('error', () => {});
    let made;
    try {
      await client.connect();
      while (Date.now() < until) {
        const call = all[Math.floor(Math.random() * all.length)];
        await client.query('rollback; reset role');
        await become(client, call);
        if (Math.random() < 0.5) await client.query('begin; savepoint a');
        made = call.name;
        await client.query(`select ${call.sql} from generate_series(1, 3) as i`).then(
          () => { done.set(call.name, (done.get(call.name) ?? 0) + 1); },
          (error) => { if (!call.raises || ENDED.includes(error.code)) throw error; },
        );
        if (Math.random() < 0.5) await client.query('commit');
      }
    } catch (error) {
      if (![...ENDED, ...IN_EACH_OTHERS_WAY].includes(error.code)) {
        error.message += ` in ${made}`;
        throw error;
      }
      errors.set(error.code, (errors.get(error.code) ?? 0) + 1);
    } finally {
      await client.end().catch(() => {});
    }
  }
}

test('sessions that are ended at random, among all that they may be doing, take nobody with them', async () => {
  const started = cluster.psql('postgres', 'select pg_postmaster_start_time()');
  const until = Date.now() + SECONDS * 1000;
  const [done, errors] = [new Map(), new Map()];
  let killed = 0;
  const killer = await cluster.connect('postgres');
  const killing = (async () => {
    while (Date.now() < until) {
      await sleep(100);
      const way = killed % 3 === 2 ? 'pg_cancel_backend' : 'pg_terminate_backend';
      const { rowCount } = await killer.query(`select ${way}(pid) from (select pid from pg_stat_activity
        where backend_type = 'client backend' and pid <> pg_backend_pid() order by random() limit 1) as one`);
      killed += rowCount;
    }
  })();
  await Promise.all([killing, ...Array.from({ length: CLIENTS }, () => work(until, done, errors))]);
  await killer.end();
  if (process.env.SECONDS) console.log(killed, done, errors);

  const log = readFileSync(cluster.log, 'utf8');
  assert.doesNotMatch(log, /PANIC|terminated by signal|stuck spinlock|TRAP|panicked|exited with exit code [^01]|crash of another/);
  assert.equal(cluster.psql('postgres', 'select pg_postmaster_start_time()'), started);
  assert.ok(killed > SECONDS, `${killed} were ended`);
  assert.ok(done.size > all.length / 2, `${done.size} functions came to an end`);
});

test('after that every function works, and shared memory too', async () => {
  const LOCKS = "select count(*) from pg_locks join pg_stat_activity using (pid) where backend_type = 'client backend' and pid <> pg_backend_pid()";
  await eventually(() => cluster.psql('postgres', LOCKS) === '0');
  cluster.psql('postgres', "select pat.rotate_signing_key('es')");
  const client = await cluster.connect('postgres');
  for (const call of all) {
    await client.query('reset role');
    await become(client, call);
    const made = client.query(`select ${call.sql} from (values (1)) as numbers(i)`);
    if (call.raises) await assert.rejects(made, call.name);
    else await made;
  }
  await client.query('reset role');
  const limited = cluster.psql('postgres', `select token from mint_pat('${ALICE}', 'limited', kind => 'opaque', rate_limit => 2, rate_window => '31 days')`);
  const gate = calls({ ...tokens, opaque: limited }).find(({ name }) => name === 'pat.gate, opaque token');
  const answers = [];
  for (let n = 0; n < 3; n += 1) {
    const other = await cluster.connect('postgres');
    await become(other, gate);
    answers.push(await other.query('select pat.gate()').then(() => 'passes', ({ code }) => code));
    await other.end();
  }
  assert.deepEqual(answers, ['passes', 'passes', 'PGRST']);
  await client.end();
});

test('the tables hold nothing that is half done', async () => {
  const none = (what, sql) => assert.equal(cluster.psql('postgres', `select count(*) from ${sql}`), '0', what);
  none('a key without an event', `pat.api_keys k where name = 'robust' and not exists (
    select from pat.events e where e.key_id = k.id and e.event in ('token_minted', 'token_rotated', 'token_imported'))`);
  none('a key that was replaced by none', 'pat.api_keys k where replaced_by is not null and not exists (select from pat.api_keys n where n.id = k.replaced_by)');
  none('a signing key without its private part', 'pat.signing_keys s where not exists (select from pat.private_keys p where p.kid = s.kid)');
  none('a private part without its key', 'pat.private_keys p where not exists (select from pat.signing_keys s where s.kid = p.kid)');
  none('a session of one kind alone', 'pat.sessions s full join auth.sessions a on a.id = s.session_id where a.id is null or s.session_id is null');
  none('a user without an identity', "auth.users u where email like '%-%@example.com' and not exists (select from auth.identities i where i.user_id = u.id)");
  assert.equal(cluster.psql('postgres', "select count(*) from pat.signing_keys where status = 'current'"), '1');
});
