// Clients that take turns on one connection to Postgres, as a pooler of transactions lends it: what one of them has
// been, and what its backend remembers, is nothing to the next.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { Pooler } from '../cluster/pooler.mjs';
import { ALICE, BOB, startCluster } from './fixture.mjs';

const READ_WRITE = { method: 'POST', path: '/todos' };
const TITLES = 'select array_agg(title order by id) as titles from todos';
const WHOAMI = `select current_user as role, auth.uid() as uid, auth.role() as claimed, current_api_key_id() as key,
  is_valid_api_token() as valid, auth.jwt() -> 'app_metadata' ->> 'plan' as plan,
  current_setting('transaction_read_only') as reads_only`;
/** All that a session has and a transaction could leave behind. */
const LEFT = `
  select pg_backend_pid() as backend, current_user, session_user, current_setting('role') as role,
    current_setting('transaction_read_only') as reads_only, current_setting('transaction_isolation') as isolation,
    (select json_object_agg(name, current_setting(name, true) order by name) from unnest($1::text[]) name
     where current_setting(name, true) <> '') as custom,
    (select json_object_agg(name, setting order by name) from pg_settings where source = 'session' and name not like 'transaction\\_%') as settings,
    (select json_agg(locktype) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory') as locks,
    (select json_agg(name) from pg_cursors where name <> '') as cursors,
    (select json_agg(name) from pg_prepared_statements) as statements,
    (select json_agg(channel) from pg_listening_channels() channel) as channels,
    pg_my_temp_schema() as temporary`;
const CLAIMS = ['sub', 'role', 'email', 'jti', 'type', 'scope', 'session_id', 'aud', 'app_metadata'];
const CUSTOM = ['request.jwt.claims', 'request.jwt.claim', 'request.method', 'request.path', 'request.headers',
  'response.status', 'response.headers', 'app.seen',
  ...['request.jwt.claim.', 'request.jwt.claims.'].flatMap((prefix) => CLAIMS.map((claim) => prefix + claim))];

const ENDS = {
  'is committed': (client) => client.query('commit'),
  'is rolled back': (client) => client.query('rollback'),
  async 'fails, and is rolled back'(client) {
    await assert.rejects(client.query('select 1 / 0'), { code: '22012' });
    await client.query('rollback');
  },
  async 'fails, and would be committed'(client) {
    await assert.rejects(client.query('insert into todos (user_id, title) values (null, null)'));
    assert.equal((await client.query('commit')).command, 'ROLLBACK');
  },
  async 'goes back to a savepoint, and is committed'(client) {
    await client.query('savepoint before');
    await assert.rejects(client.query('select 1 / 0'), { code: '22012' });
    await client.query('rollback to savepoint before');
    await client.query('commit');
  },
  async 'runs out of time'(client) {
    await client.query(`set local statement_timeout = '20ms'`);
    await assert.rejects(client.query('select pg_sleep(60)'), { code: '57014' });
    await client.query('rollback');
  },
  async 'loses its client'(client) {
    client.on('error', () => {});
    client.connection.stream.destroy();
  },
};

for (const [reset, settings] of [
  ['not reset', { server_reset_query_always: 0 }],
  ['reset by DISCARD ALL', { server_reset_query: 'discard all' }],
]) {
  describe(`a server connection that is ${reset} between transactions`, () => {
    let cluster;
    let pooler;
    let admin;
    let next;
    let first;
    const clients = [];
    before(async () => {
      cluster = await startCluster({
        settings: {
          'supabase_pat.live_claims': 'on', 'supabase_pat.next_pre_request': 'public.note_who',
          'supabase_pat.enable_sign_up': 'on', 'supabase_pat.enable_sign_in': 'on',
          'supabase_pat.confirm_sign_up': 'off', 'supabase_pat.max_keys_per_user': 1000,
        },
        sql: `
          update auth.users set raw_app_meta_data = jsonb_build_object('plan', email);
          create function note_who() returns void language plpgsql
              as $$ begin perform set_config('app.seen', current_user, true); end $$;`,
      });
      admin = await cluster.connect('postgres');
      pooler = await Pooler.start(cluster, { size: 1, settings });
      first = await pooler.connect('postgres', 'authenticator');
      next = await pooler.connect('postgres', 'authenticator');
    });
    // Whoever is amid a transaction has the connection.
    afterEach(async () => {
      for (const client of clients.splice(0)) await client.end().catch(() => {});
      for (const client of [first, next]) await client.query('rollback');
    });
    after(async () => {
      for (const client of [first, next, admin]) await client.end();
      pooler.stop();
      cluster.stop();
    });

    const connect = async () => {
      const client = await pooler.connect('postgres', 'authenticator');
      clients.push(client);
      return client;
    };
    const sql = async (text, ...values) => (await admin.query(text, values)).rows;
    const left = async () => (await next.query(LEFT, [CUSTOM])).rows[0];
    const mint = async (user, { kind = 'jwt', scopes = null, limit = null } = {}) => {
      const [{ id, token }] = await sql(`select id, token from mint_pat(user_id => $1, name => 'x', kind => $2, scopes => $3,
        rate_limit => $4, rate_window => '31 days')`, user, kind, scopes, limit);
      return { id, ...(kind === 'opaque' ? { opaque: token } : { claims: claimsOf(token) }) };
    };
    const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));

    /** Begins a transaction as a REST server does, up to the request itself. `each` says under what names it
     * also sets the claims one by one. */
    async function begin(client, { opaque, claims = { role: 'anon' }, method = 'GET', path = '/todos', each = [] } = {}) {
      await client.query('begin');
      if (method === 'GET') await client.query('set transaction read only');
      const headers = opaque ? { 'x-api-key': opaque } : {};
      const settings = {
        role: claims.role, 'request.jwt.claims': JSON.stringify(claims), 'request.method': method, 'request.path': path,
        'request.headers': JSON.stringify(headers),
      };
      for (const prefix of each) for (const [name, claim] of Object.entries(claims)) settings[`${prefix}.${name}`] = String(claim);
      await client.query('select set_config(key, value, true) from json_each_text($1)', [JSON.stringify(settings)]);
      await client.query('select pat.gate()');
    }
    /** One request from beginning to end. */
    async function ask(client, who, query = WHOAMI) {
      try {
        await begin(client, who);
        const { rows: [row] } = await client.query(query);
        await client.query('commit');
        return row;
      } catch (error) {
        await client.query('rollback');
        return error.message;
      }
    }
    const anonymous = { role: 'anon', uid: null, claimed: 'anon', key: null, valid: true, plan: null };
    const as = (uid, key, plan) => ({ role: 'authenticated', uid, claimed: 'authenticated', key, valid: true, plan });
    const REVOKED = 'the personal access token has been revoked';
    const UNKNOWN = 'there is no such personal access token';

    /** The ways to be somebody, and whether what they do may write. */
    const WAYS = {
      'an opaque token': async () => ({ ...await mint(ALICE, { kind: 'opaque' }), ...READ_WRITE }),
      'an opaque token beside the service key': async () => ({
        ...await mint(ALICE, { kind: 'opaque' }), claims: { role: 'service_role' }, ...READ_WRITE,
      }),
      'a token whose claims are set one by one too': async () => ({
        ...await mint(ALICE, { kind: 'opaque' }), claims: { role: 'authenticated', sub: BOB, email: 'bob@example.com' },
        each: ['request.jwt.claim', 'request.jwt.claims'], ...READ_WRITE,
      }),
      'a JWT with claims as they are now': async () => ({ ...await mint(ALICE), ...READ_WRITE }),
      'a token that only reads': async () => mint(ALICE, { kind: 'opaque', scopes: ['todos:read'] }),
      'a token that only reads, where the server has not said so': async () => ({
        ...await mint(ALICE, { scopes: ['todos:read'] }), method: 'HEAD',
      }),
    };
    for (const [way, find] of Object.entries(WAYS)) {
      for (const [end, finish] of Object.entries(ENDS)) {
        test(`of a transaction of ${way}, which ${end}, it keeps nothing`, async () => {
          const clean = await left();
          assert.deepEqual([clean.role, clean.current_user, clean.custom], ['none', 'authenticator', null]);
          const who = await find();
          const client = await connect();
          await begin(client, who);
          const { rows: [{ reads_only: readsOnly, ...is }] } = await client.query(WHOAMI);
          assert.deepEqual(is, as(ALICE, who.id, 'alice@example.com'));
          assert.equal(readsOnly, who.method === 'POST' ? 'off' : 'on');
          assert.deepEqual((await client.query(TITLES)).rows, [{ titles: ['alice 1', 'alice 2'] }]);
          if (who.method === 'POST') await client.query(`savepoint s; insert into todos (title) values ('x'); rollback to savepoint s`);
          else await assert.rejects(client.query(`savepoint s; insert into todos (title) values ('x')`), { code: '25006' });
          if (who.method !== 'POST') await client.query('rollback to savepoint s');
          await finish(client);

          const { backend, ...rest } = await left();
          const { backend: sameBackend, ...cleanRest } = clean;
          assert.deepEqual(rest, cleanRest);
          // PgBouncer closes the connection under a transaction that nobody ends.
          if (end !== 'loses its client') assert.equal(backend, sameBackend);

          assert.deepEqual(await ask(next, READ_WRITE), { ...anonymous, reads_only: 'off' });
          const bob = { ...await mint(BOB), ...READ_WRITE };
          assert.deepEqual(await ask(next, bob), { ...as(BOB, bob.id, 'bob@example.com'), reads_only: 'off' });
          assert.deepEqual(await ask(next, bob, TITLES), { titles: ['bob 1'] });
        });
      }
    }

    test('of a request that the gate refuses it keeps nothing', async () => {
      const clean = await left();
      const [opaque, jwt] = [await mint(ALICE, { kind: 'opaque' }), await mint(ALICE, { scopes: ['notes:read'] })];
      await sql('select revoke_pat($1)', opaque.id);
      const client = await connect();
      assert.equal(await ask(client, { ...opaque, claims: { role: 'service_role' } }), REVOKED);
      assert.deepEqual(await left(), clean);
      assert.equal(await ask(client, jwt), 'the personal access token lacks the scope todos:read');
      assert.deepEqual(await left(), clean);
    });

    test('called without a transaction, the gate leaves nothing after its statement', async () => {
      const clean = await left();
      const { opaque } = await mint(ALICE, { kind: 'opaque', scopes: ['todos:read'] });
      const settings = [JSON.stringify({ 'x-api-key': opaque }), 'GET', '/todos'];
      const client = await connect();
      const { rows } = await client.query(`
        select set_config('request.headers', $1, true), set_config('request.method', $2, true),
          set_config('request.path', $3, true), pat.gate()::text, current_setting('role') as role,
          current_setting('transaction_read_only') as reads_only`, settings);
      assert.deepEqual([rows[0].role, rows[0].reads_only], ['authenticated', 'on']);
      assert.deepEqual(await left(), clean);
    });

    test('writes of a client that is lost are undone, and its request has counted', async () => {
      const who = { ...await mint(ALICE, { kind: 'opaque', limit: 2 }), ...READ_WRITE };
      const client = await connect();
      await begin(client, who);
      await client.query(`insert into todos (title) values ('lost')`);
      await ENDS['loses its client'](client);
      assert.deepEqual(await ask(next, who, TITLES), { titles: ['alice 1', 'alice 2'] });
      assert.match(await ask(next, who, TITLES), /has used up its 2 requests/);
    });

    test('no function for applications leaves anything on it', async () => {
      const clean = await left();
      const client = await connect();
      const login = { claims: claimsOf((await sql('select access_token from pat.mint_session($1)', ALICE))[0].access_token), ...READ_WRITE };
      const call = async (who, text, ...values) => {
        await begin(client, who);
        const { rows: [row] } = await client.query(text, values);
        await client.query('commit');
        assert.deepEqual(await left(), clean, text);
        return row;
      };
      const anon = READ_WRITE;
      const service = { claims: { role: 'service_role' }, ...READ_WRITE };
      const minted = await call(login, `select * from mint_pat(name => 'x')`);
      const { id } = await call(login, 'select * from rotate_pat($1)', minted.id);
      await call(login, 'select * from api_keys');
      await call(login, 'select * from api_key_events');
      await call(login, 'select revoke_pat($1)', id);
      await call(login, 'select revoke_all_pats()');
      const email = `${id}@example.com`;
      await call(anon, `select * from sign_up($1, 'a password')`, email);
      const signedIn = await call(anon, `select * from sign_in($1, 'a password')`, email);
      await call(anon, `select * from sign_in($1, 'a wrong password')`, email);
      await call(anon, 'select * from refresh_session($1)', signedIn.refresh_token);
      await call(login, 'select * from session_info()');
      const { token } = await call(anon, 'select request_password_reset($1) as token', email);
      const [{ code }] = await sql('select code from pat.claim_messages() where email = $1', email);
      await call(anon, `select verify_reset_code($1, 'x')`, token);
      await call(anon, `select reset_password($1, $2, 'a new password')`, token, code);
      await call(login, 'select get_settings()');
      await call(service, `select pat.define_setting('theme', '"dark"')`);
      await call(login, `select set_settings('{"theme": "light"}')`);
      await call(service, `select pat.drop_setting('theme')`);
      await call(service, 'select pat.mint_session($1)', BOB);
      const kid = (await call(service, 'select pat.add_signing_key() as kid')).kid;
      await call(service, 'select pat.rotate_signing_key($1)', kid);
      const { jwt } = await call(service, `select pat.sign_jwt('{"role": "anon"}', '1 hour') as jwt`);
      await call(service, 'select pat.verify_jwt($1)', jwt);
      await call(service, 'select pat.deny_token($1)', jwt);
      await call(service, 'select * from pat.status()');
      await call(login, 'select sign_out()');
      await sql('delete from pat.signing_keys');
    });

    test('what a client sets for the session is not taken away, and nobody is another user for it', async () => {
      const client = await connect();
      await client.query(`select set_config('request.jwt.claim.sub', $1, false), set_config('request.jwt.claims', $2, false)`,
        [BOB, JSON.stringify({ role: 'service_role', sub: BOB })]);
      try {
        const stays = (await left()).custom;
        // Of a pooler that resets nothing the application has to take care.
        assert.equal(stays?.['request.jwt.claim.sub'], reset === 'not reset' ? BOB : undefined);
        const [opaque, jwt] = [await mint(ALICE, { kind: 'opaque' }), await mint(ALICE)];
        assert.deepEqual(await ask(next, opaque), { ...as(ALICE, opaque.id, 'alice@example.com'), reads_only: 'on' });
        // auth.uid() prefers the claim that is set by itself, which is not that of the token.
        assert.deepEqual(await ask(next, jwt), reset === 'not reset'
          ? 'the claims of this request are malformed' : { ...as(ALICE, jwt.id, 'alice@example.com'), reads_only: 'on' });
        assert.deepEqual((await left()).custom, stays);
      } finally {
        await client.query('discard all');
      }
    });

    describe('remembers nothing that has changed since', () => {
      for (const kind of ['jwt', 'opaque']) {
        for (const [what, change, refusal, undo] of [
          ['a key that was revoked', 'update pat.api_keys set revoked_at = now() where id = $1', REVOKED,
            'update pat.api_keys set revoked_at = null where id = $1'],
          ["a key that has become another user's", `update pat.api_keys set user_id = '${BOB}' where id = $1`,
            kind === 'jwt' ? UNKNOWN : undefined, `update pat.api_keys set user_id = '${ALICE}' where id = $1`],
          ['a user who was banned', `update auth.users set banned_until = 'infinity' where id = (select user_id from pat.api_keys where id = $1)`,
            'the user of the personal access token is banned', 'update auth.users set banned_until = null where $1::uuid is not null'],
          ['scopes that were taken away', `update pat.api_keys set scopes = '{notes:read}' where id = $1`,
            // Those of a JWT are in the JWT, and count no more than those of its row.
            'the personal access token lacks the scope todos:read',
            'update pat.api_keys set scopes = null where id = $1'],
          ["the user's data", `update auth.users set raw_app_meta_data = '{"plan": "new"}' where id = (select user_id from pat.api_keys where id = $1)`,
            undefined, `update auth.users set raw_app_meta_data = jsonb_build_object('plan', email) where $1::uuid is not null`],
        ]) {
          test(`of ${what}, with a token of kind ${kind}`, async () => {
            const who = await mint(ALICE, { kind });
            const passes = { ...as(ALICE, who.id, 'alice@example.com'), reads_only: 'on' };
            for (const client of [first, next]) assert.deepEqual(await ask(client, who), passes);
            await sql(change, who.id);
            const changed = refusal ?? {
              ...passes,
              ...(what.includes('another') && { uid: BOB, plan: 'bob@example.com' }),
              ...(what.includes('data') && { plan: 'new' }),
            };
            for (const client of [next, first]) assert.deepEqual(await ask(client, who), changed);
            await sql(undo, who.id);
            for (const client of [first, next]) assert.deepEqual(await ask(client, who), passes);
          });
        }
      }

      test('of a JWT that was denied', async () => {
        const claims = { role: 'service_role', iss: 'supabase', iat: 1_700_000_000, exp: 4_000_000_000 };
        const [{ token }] = await sql('select pat.sign_jwt($1) as token', claims);
        for (const client of [first, next]) assert.equal((await ask(client, { claims })).role, 'service_role');
        await sql('select pat.deny_token($1)', token);
        for (const client of [first, next]) assert.equal(await ask(client, { claims }), 'this token is no longer accepted');
        await sql('delete from pat.denied_tokens');
        for (const client of [first, next]) assert.equal((await ask(client, { claims })).role, 'service_role');
      });

      test('of signing keys', async () => {
        const service = { claims: { role: 'service_role' }, ...READ_WRITE };
        const kidOf = async (client) => (await ask(client, service,
          `select (pat.decode_jwt(pat.sign_jwt('{"role": "anon"}', '1 hour'))).header ->> 'kid' as kid`)).kid;
        assert.equal(await kidOf(first), null);
        for (const kid of ['a', 'b']) {
          await sql(`select pat.add_signing_key('HS256', kid => $1)`, kid);
          await sql('select pat.rotate_signing_key($1)', kid);
          for (const client of [next, first]) assert.equal(await kidOf(client), kid);
        }
        const [{ token }] = await sql(`select pat.sign_jwt('{"role": "anon"}', '1 hour') as token`);
        const status = `select pat.jwt_status('${token}') as status`;
        assert.deepEqual(await ask(next, service, status), { status: 'valid' });
        await sql(`select pat.rotate_signing_key('a')`);
        await sql(`select pat.revoke_signing_key('b')`);
        assert.deepEqual(await ask(next, service, status), { status: 'revoked' });
        await sql('delete from pat.signing_keys');
        assert.equal(await kidOf(next), null);
      });

      for (const [what, leave, undo] of [
        ['rolled back', 'select 1', 'rollback'],
        ['rolled back to a savepoint', 'savepoint s', 'rollback to savepoint s'],
      ]) {
        test(`of what was ${what}: a key that was minted, and one that was revoked`, async () => {
          const old = await mint(ALICE);
          const { rows: [{ id, token }] } = await transaction(first, leave, undo, async () => {
            const minted = await first.query(`select * from mint_pat(user_id => $1, name => 'x')`, [ALICE]);
            await valid(first, claimsOf(minted.rows[0].token), true);
            await first.query('select revoke_pat($1)', [old.id]);
            await valid(first, old.claims, false);
            return minted;
          }, async (minted) => {
            if (undo === 'rollback') return;
            await valid(first, claimsOf(minted.rows[0].token), false);
            await valid(first, old.claims, true);
          });
          const gone = { id, claims: claimsOf(token) };
          for (const client of [next, first]) {
            assert.equal(await ask(client, gone), UNKNOWN);
            assert.equal((await ask(client, old)).valid, true);
          }
        });
      }
      const valid = async (client, claims, expected) => {
        await client.query('savepoint before');
        // Announced by one statement, as by a REST server: then the request can still become the token's.
        const announced = client.query(`select set_config('request.jwt.claims', $1, true), set_config('role', $2, true),
          set_config('request.method', 'GET', true)`, [JSON.stringify(claims), claims.role]);
        if (expected) {
          await announced;
          assert.deepEqual((await client.query('select is_valid_api_token() as valid')).rows, [{ valid: true }]);
        } else {
          await assert.rejects(announced, { code: 'PT401' });
        }
        await client.query('rollback to savepoint before');
      };
      async function transaction(client, leave, undo, before, then) {
        await client.query('begin; set local role service_role');
        await client.query(leave);
        const made = await before();
        await client.query(undo);
        await then(made);
        if (undo !== 'rollback') await client.query('commit');
        return made;
      }

      test('of a revocation during REPEATABLE READ', async () => {
        const who = await mint(ALICE);
        await first.query('begin isolation level repeatable read');
        await valid(first, who.claims, true);
        await sql('select revoke_pat($1)', who.id);
        await valid(first, who.claims, false);
        await first.query('commit');
        assert.equal(await ask(next, who), REVOKED);
      });
    });

    test('all this was one connection at a time', async () => {
      const [pool] = (await pooler.show('pools')).filter(({ user }) => user === 'authenticator');
      assert.deepEqual([pool.pool_mode, Number(pool.sv_active) + Number(pool.sv_idle) + Number(pool.sv_used)], ['transaction', 1]);
      assert.deepEqual(await sql(`select count(*)::int from pg_stat_activity where usename = 'authenticator'`), [{ count: 1 }]);
    });
  });
}
