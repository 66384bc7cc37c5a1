// A REST server at work while the extension is updated: users who read and write, mint, rotate and revoke, refresh
// their sessions and change their settings, each of whom knows what the next answer has to be.
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { Agent } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { RestServer } from '../cluster/cluster.mjs';
import { SECRET } from './fixture.mjs';
import { ask, sending } from './gate_world.mjs';

export const SETTINGS = {
  shared_preload_libraries: 'supabase_pat',
  'supabase_pat.jwt_secret': SECRET,
  'supabase_pat.flush_interval': 1,
  'supabase_pat.max_keys_per_user': 1_000_000,
};

/** As on Supabase: roles are the cluster's, all else is the database's. */
export const ROLES = `
  create role anon nologin;
  create role authenticated nologin;
  create role service_role nologin bypassrls;
  create role authenticator login noinherit;`;

const USERS = 8;
/** What an operator's own programs do, on connections that nobody guards: locks in any order, for as long as they like. */
const READERS = [
  'select count(*) from (select 1 from public.api_keys limit 10) k',
  'begin; select 1 from pat.events limit 1; select pg_sleep(0.02); select 1 from pat.api_keys limit 1; commit',
  'begin; select 1 from public.api_key_events limit 1; select 1 from public.api_keys limit 1; select pg_sleep(0.02); select 1 from pat.user_settings limit 1; commit',
];
const userId = (n) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;

export const APPLICATION = `
  alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
  alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
  create extension supabase_pat version '0.1.0';
  select pat.install_auth_schema();
  insert into auth.users (id, email)
    select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'user' || n || '@example.com' from generate_series(1, ${USERS}) n;
  create table notes (
    id bigint primary key generated always as identity,
    user_id uuid not null default pat.uid(),
    by_key uuid default current_api_key_id(),
    body text not null
  );
  alter table notes enable row level security;
  create policy owners on notes using (user_id = pat.uid() and is_valid_api_token()) with check (user_id = pat.uid() and is_valid_api_token());
  grant select, insert on notes to authenticated;
  insert into notes (user_id, body) select id, 'first' from auth.users;
  select pat.define_setting('temperature', '0.7', '{"type": "number"}');`;

/** So many old tokens, each with an event and a last use, a tenth of them made by other tokens. */
export const manyTokens = (count) => `
  insert into pat.api_keys (id, user_id, name, created_at, expires_at, revoked_at)
    select gen_random_uuid(), gen_random_uuid(), 'old ' || i, now() - interval '1 year',
      now() + i * interval '1 minute', case when i % 10 = 0 then now() end
    from generate_series(1, ${count}) i;
  insert into pat.events (event, key_id, user_id, by_key) select 'token_minted', id, user_id, case when random() < 0.1 then gen_random_uuid() end from pat.api_keys;
  insert into pat.api_key_usage (key_id, user_id, last_used_at) select id, user_id, created_at from pat.api_keys;
  vacuum analyze pat.api_keys, pat.events, pat.api_key_usage;`;

/**
 * The users of a database with the extension and APPLICATION, through a REST server. `db` is a superuser's connection.
 * Whatever an answer is that it must not be throws. `refusals` has what else was said, and how often.
 */
export async function users(cluster, database, { atATime = USERS, readers: statements = READERS } = {}) {
  let db = await cluster.connect(database);
  cluster.psql(database, `alter role authenticator password '${cluster.password}'`);
  const serve = () => RestServer.start(cluster.url(database, 'authenticator', cluster.password), SECRET, {
    env: { PGRST_DB_PRE_REQUEST: 'pat.gate', PGRST_DB_POOL: String(atATime) },
  });
  let rest = await serve();
  const agent = new Agent({ maxSockets: atATime * 2 });
  const rows = async (sql, values) => (await db.query(sql, values)).rows;
  const waits = [];
  const refusals = new Map();
  const counts = {};
  const refused = (said) => refusals.set(said, (refusals.get(said) ?? 0) + 1);
  const send = async (method, path, options) => {
    const from = performance.now();
    const answer = await ask(rest.port, method, `/api${path}`, { agent, patience: 120_000, ...options });
    waits.push({ from, took: performance.now() - from, what: `${method} ${path.replace(/\?.*/, '')}` });
    return answer;
  };

  class User {
    constructor(n) {
      this.id = userId(n);
      this.dead = [];
      this.tokens = [];
      this.temperature = 0.7;
      this.notes = 1;
    }

    async arrive() {
      [this.session] = await rows('select access_token, refresh_token from pat.mint_session($1)', [this.id]);
      for (const kind of ['jwt', 'opaque']) {
        const [key] = await rows('select id, token from mint_pat($1, $2, kind => $2)', [this.id, kind]);
        this.tokens.push({ ...key, kind });
        const [gone] = await rows('select id, token from mint_pat($1, $2, kind => $2)', [this.id, kind]);
        await rows('select revoke_pat($1)', [gone.id]);
        this.dead.push({ ...gone, kind });
      }
      const [denied] = await rows(`select pat.sign_jwt(jsonb_build_object('role', 'authenticated', 'sub', $1::text, 'iss', 'elsewhere'), '1 hour') as token`, [this.id]);
      await rows('select pat.deny_token($1)', [denied.token]);
      this.dead.push({ ...denied, kind: 'jwt' });
      return this;
    }

    get login() { return { token: this.session.access_token }; }

    /** What the answer has to be, or what was said instead, which is looked at in the end. */
    expect(what, answer, status, check = () => {}) {
      if (answer.status === status) {
        check(answer.data);
        counts[what] = (counts[what] ?? 0) + 1;
        return true;
      }
      assert.ok(status !== 401 || answer.status >= 500, `${what}: a dead token is answered ${answer.status} ${JSON.stringify(answer.data)}`);
      refused(`${what}: ${answer.status} ${answer.data?.code} ${answer.data?.message}`);
      return false;
    }

    async read() {
      for (const token of this.tokens.slice(0, 3)) {
        this.expect('read', await send('GET', '/notes?select=body', sending(token.kind, token.token)), 200,
          (data) => assert.equal(data.length, this.notes));
      }
    }

    async ended() {
      for (const token of this.dead.slice(-4)) this.expect('dead', await send('GET', '/notes?select=body', sending(token.kind, token.token)), 401);
    }

    async write() {
      const [token] = this.tokens;
      if (this.expect('write', await send('POST', '/notes', { ...sending(token.kind, token.token), body: { body: 'more' } }), 201)) this.notes += 1;
    }

    async mint() {
      const kind = randomInt(2) ? 'jwt' : 'opaque';
      const answer = await send('POST', '/rpc/mint_pat', { ...this.login, body: { name: 'more', kind } });
      if (this.expect('mint', answer, 200)) this.tokens.push({ ...answer.data, kind });
    }

    async revoke() {
      const token = this.tokens[2];
      if (!token) return;
      const answer = await send('POST', '/rpc/revoke_pat', { ...this.login, body: { id: token.id } });
      if (!this.expect('revoke', answer, 200, (data) => assert.equal(data, true))) return;
      this.tokens.splice(2, 1);
      this.dead.push(token);
      await this.ended();
    }

    async rotate() {
      const token = this.tokens[2];
      if (!token) return;
      const answer = await send('POST', '/rpc/rotate_pat', { ...this.login, body: { id: token.id } });
      if (!this.expect('rotate', answer, 200)) return;
      this.tokens[2] = { ...answer.data, kind: token.kind };
      this.dead.push(token);
      await this.ended();
    }

    async refresh() {
      const answer = await send('POST', '/rpc/refresh_session', { body: { refresh_token: this.session.refresh_token } });
      if (this.expect('refresh', answer, 200, (data) => assert.equal(data.user.id, this.id))) this.session = answer.data;
    }

    async keys() {
      this.expect('keys', await send('GET', '/api_keys?select=id,name,is_active,last_used_at', this.login), 200, (data) => {
        const live = data.filter((key) => key.is_active).map(({ id }) => id).sort();
        assert.deepEqual(live, this.tokens.map(({ id }) => id).sort());
      });
    }

    async events() {
      this.expect('events', await send('GET', '/api_key_events?select=*&limit=5', this.login), 200);
    }

    async change() {
      const temperature = randomInt(20) / 10;
      const answer = await send('POST', '/rpc/set_settings', { ...this.login, body: { patch: { temperature } } });
      if (this.expect('change', answer, 200)) this.temperature = temperature;
      this.expect('settings', await send('POST', '/rpc/get_settings', { ...this.login, body: {} }), 200,
        (data) => assert.equal(data.temperature, this.temperature));
    }
  }

  const WAYS = ['read', 'read', 'read', 'ended', 'write', 'mint', 'revoke', 'rotate', 'refresh', 'keys', 'events', 'change'];
  const all = [];
  for (let n = 1; n <= USERS; n += 1) all.push(await new User(n).arrive());

  return {
    refusals,
    counts,
    waits,
    /** All users go on until `during` has ended, and for a second before and after, and others read as they like. */
    async goOn(during) {
      let isOver = false;
      const readers = await Promise.all(statements.map(() => cluster.connect(database)));
      const reading = readers.map(async (reader, n) => {
        while (!isOver) {
          try {
            await reader.query(statements[n]);
          } catch (error) {
            refused(`reader: ${error.code} ${error.message}`);
            await reader.query('rollback');
          }
          counts.readers = (counts.readers ?? 0) + 1;
        }
        await reader.end();
      });
      const working = Promise.all([...reading, ...all.map(async (user) => {
        while (!isOver) await user[WAYS[randomInt(WAYS.length)]]();
      })]);
      try {
        await Promise.race([sleep(1000), working]);
        const from = performance.now();
        const result = await Promise.race([during(), working.then(() => { throw new Error('the users went home'); })]);
        const to = performance.now();
        await Promise.race([sleep(1000), working]);
        isOver = true;
        await working;
        const met = waits.filter((wait) => wait.from < to && wait.from + wait.took > from);
        return { result, took: to - from, longest: Math.max(...met.map(({ took }) => took)), met: met.length };
      } finally {
        isOver = true;
        await working.catch(() => {});
      }
    },
    /** Each does each thing once more. */
    async lookAround() {
      for (const user of all) for (const way of new Set(WAYS)) await user[way]();
      for (const { dead } of all) {
        for (const token of dead) assert.equal((await send('GET', '/notes?select=body', sending(token.kind, token.token))).status, 401);
      }
    },
    /** The server is restarted, and the users are there again. */
    async restart() {
      rest.stop();
      await db.end();
      cluster.control('restart');
      db = await cluster.connect(database);
      rest = await serve();
    },
    async close() {
      agent.destroy();
      rest.stop();
      await db.end();
    },
  };
}
