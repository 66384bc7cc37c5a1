// Random interleavings of what operators do to users, keys, sessions and their tables with the looks of open sessions, beside
// connections that change the tables all the time without changing what they say. SECONDS=… for how long, SEED=… to repeat.
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import { Cluster } from '../cluster/cluster.mjs';
import { ALICE, SECRET } from './fixture.mjs';

const SECONDS = Number(process.env.SECONDS ?? 6);
const SEED = Number(process.env.SEED ?? randomInt(2 ** 31));
const KEY = '01900000-0000-7000-8000-000000000001';
const SESSION = '01900000-0000-7000-8000-000000000002';

/** mulberry32 */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
const random = generator(SEED);
const one = (list) => list[Math.floor(random() * list.length)];

/** What there is, as it should be seen. */
const model = {
  user: true, deleted: false, banned: false, key: true, row: true, session: true, ended: false, banColumn: 'timestamptz', deletedColumn: true, schema: 'auth',
};
const truth = () => {
  const user = model.schema === 'auth' && model.user && !(model.deletedColumn && model.deleted) && !(model.banColumn && model.banned);
  return { token: user && model.key, session: user && model.session && !model.ended };
};

const auth = () => model.schema;
/** What operators do: the SQL, and what it makes of the model. `undefined` if it cannot be done now. */
const OPERATIONS = [
  () => model.deletedColumn && [`update ${auth()}.users set deleted_at = now()`, { deleted: true }],
  () => model.deletedColumn && [`update ${auth()}.users set deleted_at = null`, { deleted: false }],
  () => model.deletedColumn && [`alter table ${auth()}.users drop deleted_at`, { deletedColumn: false, deleted: false }],
  () => !model.deletedColumn && [`alter table ${auth()}.users add deleted_at timestamptz`, { deletedColumn: true, deleted: false }],
  () => !model.deletedColumn && model.user
    && [`alter table ${auth()}.users add deleted_at timestamptz; update ${auth()}.users set deleted_at = now()`, { deletedColumn: true, deleted: true }],
  () => model.banColumn && [`update ${auth()}.users set banned_until = 'infinity'`, { banned: model.user }],
  () => model.banColumn && [`update ${auth()}.users set banned_until = null`, { banned: false }],
  () => model.banColumn && [`alter table ${auth()}.users drop banned_until`, { banColumn: undefined, banned: false }],
  () => !model.banColumn && [`alter table ${auth()}.users add banned_until timestamptz`, { banColumn: 'timestamptz', banned: false }],
  () => model.banColumn === 'timestamptz' && [`alter table ${auth()}.users alter banned_until type text`, { banColumn: 'text' }],
  () => model.banColumn === 'text' && [`alter table ${auth()}.users alter banned_until type timestamptz using banned_until::timestamptz`, { banColumn: 'timestamptz' }],
  () => model.user && [`delete from ${auth()}.users`, { user: false, deleted: false, banned: false }],
  () => !model.user && [`insert into ${auth()}.users (id) values ('${ALICE}')`, { user: true, deleted: false, banned: false }],
  () => [`update pat.api_keys set revoked_at = now()`, { key: false }],
  () => [`update pat.api_keys set revoked_at = null`, { key: model.row }],
  () => [`delete from pat.api_keys`, { key: false, row: false }],
  () => [`insert into pat.api_keys (id, user_id, name, expires_at) values ('${KEY}', '${ALICE}', 'x', '2100-01-01')
    on conflict (id) do update set revoked_at = null`, { key: true, row: true }],
  () => [`delete from ${auth()}.sessions`, { session: false, ended: false }],
  () => !model.session && [`insert into ${auth()}.sessions (id, user_id) values ('${SESSION}', '${ALICE}')`, { session: true, ended: false }],
  () => [`update ${auth()}.sessions set not_after = now() - interval '1 hour'`, { ended: model.session }],
  () => [`update ${auth()}.sessions set not_after = null`, { ended: false }],
  () => [`alter schema ${auth()} rename to ${auth() === 'auth' ? 'elsewhere' : 'auth'}`, { schema: auth() === 'auth' ? 'elsewhere' : 'auth' }],
  () => [`create table pg_temp.copy as table ${auth()}.users; alter table ${auth()}.users rename to former;
    create table ${auth()}.users (like ${auth()}.former including all); insert into ${auth()}.users select * from pg_temp.copy;
    drop table ${auth()}.former, pg_temp.copy`, {}],
];

/** What changes nothing that is seen, and can be done at any time. */
const NOISE = [
  'reindex table concurrently auth.users', 'reindex table concurrently pat.api_keys', 'reindex table concurrently auth.sessions',
  'vacuum full auth.users', 'vacuum full pat.api_keys', 'cluster auth.sessions using sessions_pkey', 'analyze auth.users',
  'create index if not exists noise on auth.users (id)', 'drop index concurrently if exists auth.noise', 'drop index if exists auth.noise',
  'alter table auth.users add if not exists noise int default 7', 'alter table auth.users drop if exists noise',
  'alter table pat.api_keys add if not exists noise text default \'x\'', 'alter table pat.api_keys drop if exists noise',
  'alter table auth.users alter email type text', 'alter table auth.users alter email type varchar(255)',
  'alter table auth.sessions enable row level security', 'alter table auth.sessions disable row level security',
];

test('each answer is that of what has been committed, while tables are changed all the time', { timeout: (SECONDS + 60) * 1000 }, async () => {
  const cluster = await Cluster.start({ settings: { shared_preload_libraries: 'supabase_pat', 'supabase_pat.jwt_secret': SECRET, statement_timeout: '20s' } });
  try {
    cluster.psql('postgres', `
      create extension supabase_pat; select pat.install_auth_schema();
      alter table auth.sessions drop constraint sessions_user_id_fkey; alter table auth.identities drop constraint identities_user_id_fkey;
      alter table auth.users drop column confirmed_at;
      insert into auth.users (id) values ('${ALICE}');
      insert into auth.sessions (id, user_id) values ('${SESSION}', '${ALICE}');
      insert into pat.api_keys (id, user_id, name, expires_at) values ('${KEY}', '${ALICE}', 'x', '2100-01-01');`);
    const end = Date.now() + SECONDS * 1000;
    const operator = await cluster.connect('postgres');
    // Nobody waits long for what waits for open transactions.
    await operator.query(`set deadlock_timeout = '20ms'; set lock_timeout = '100ms'`);
    const noise = Array.from({ length: 2 }, async () => {
      const client = await cluster.connect('postgres');
      let done = 0;
      // A statement that runs out of time as it ends may report that when it has ended already, and to nobody who waits
      // for it. Waiting for a lock has no such moment.
      await client.query(`set lock_timeout = '150ms'; set deadlock_timeout = '20ms'`);
      while (Date.now() < end) {
        // Whatever of it is in the way of something else fails or waits, and never for what is tested here.
        await client.query(NOISE[randomInt(NOISE.length)]).then(() => { done += 1; }, (error) => {
          assert.match(error.code, /^(3F000|42P01|42703|42704|42P07|40P01|55\w+|0A000|XX000|23505|42701)$/, error.message);
        });
      }
      await client.end();
      return done;
    });
    const sessions = await Promise.all(Array.from({ length: 4 }, async (_, number) => {
      const client = await cluster.connect('postgres');
      const who = number % 2 === 0 ? 'token' : 'session';
      const claims = who === 'token' ? { type: 'personal_access_token', jti: KEY } : { session_id: SESSION };
      await client.query(`select set_config('request.jwt.claims', $1, false)`, [JSON.stringify({ role: 'authenticated', sub: ALICE, ...claims })]);
      return { client, who, ask: who === 'token' ? 'select is_valid_api_token() as answer' : 'select is_active_session() as answer', isOpen: false };
    }));
    const trail = [];
    let looks = 0;
    let changes = 0;
    while (Date.now() < end) {
      const step = random();
      if (step < 0.3) {
        const operation = one(OPERATIONS)();
        if (!operation) continue;
        const [sql, change] = operation;
        try {
          await operator.query(`begin; ${sql}; commit`);
          Object.assign(model, change);
          changes += 1;
          trail.push(sql);
        } catch (error) {
          // In a deadlock with the noise: nothing has been done.
          assert.match(error.code, /^(40P01|40001|42P01|42P07|XX000|55\w+)$/, `${sql}: ${error.message}`);
          await operator.query('rollback');
        }
        continue;
      }
      const session = one(sessions);
      if (step < 0.4 && !session.isOpen) {
        await session.client.query(`begin isolation level ${one(['read committed', 'repeatable read', 'serializable'])}`);
        session.isOpen = true;
        trail.push(`${session.who} begins`);
      } else if (step < 0.55 && session.isOpen) {
        await session.client.query('commit');
        session.isOpen = false;
        trail.push(`${session.who} commits`);
      }
      const { answer } = (await session.client.query(session.ask)).rows[0];
      looks += 1;
      trail.push(`${session.who} sees ${answer}`);
      assert.equal(answer, truth()[session.who], `SEED=${SEED}\n${trail.slice(-25).join('\n')}`);
    }
    // What waits for transactions that live in the past can go on.
    await Promise.all(sessions.map(({ client }) => client.end()));
    const noises = (await Promise.all(noise)).reduce((sum, done) => sum + done, 0);
    await operator.end();
    console.log(`${looks} looks, ${changes} changes, ${noises} statements beside them`);
    assert.ok(looks > 100 && changes > 20 && noises > 5, `${looks} ${changes} ${noises}`);
  } finally {
    cluster.stop();
  }
});
