// A statement that is cancelled ends soon, whatever of ours it is doing, and leaves nothing behind. Durations are
// not compared with one another: each statement would go on for minutes.
import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import { Cluster } from '../cluster/cluster.mjs';
import { become, calls, prepare, SETTINGS } from './calls.mjs';
import { ALICE, BOB } from './fixture.mjs';
import { eventually } from './gate_world.mjs';

let cluster;
let tokens;
let watcher;

before(async () => {
  cluster = await Cluster.start({ settings: SETTINGS });
  tokens = prepare(cluster);
  watcher = await cluster.connect('postgres');
});

after(async () => {
  await watcher?.end();
  cluster?.stop();
});

const WAYS = {
  async statement_timeout(client, run) {
    await client.query("set statement_timeout = '500ms'");
    return run();
  },
  async pg_cancel_backend(client, run, pid) {
    return ended(run(), () => watcher.query('select pg_cancel_backend($1)', [pid]), pid);
  },
  async pg_terminate_backend(client, run, pid) {
    return ended(run(), () => watcher.query('select pg_terminate_backend($1)', [pid]), pid);
  },
};

/** What comes of a statement that is ended once it is being executed. */
async function ended(running, end, pid) {
  running.catch(() => {});
  await eventually(async () => {
    const { rows: [{ state, since }] } = await watcher.query("select state, clock_timestamp() - query_start > '200ms' as since from pg_stat_activity where pid = $1", [pid]);
    return state === 'active' && since;
  }, 30);
  await end();
  return running;
}

/** Runs a statement in a session of its own as a call wants it, and ends it in each of the ways. */
async function endsSoon(sql, who, ways = Object.keys(WAYS)) {
  for (const way of ways) {
    const client = await cluster.connect('postgres');
    client.on('error', () => {});
    const { rows: [{ pid }] } = await client.query('select pg_backend_pid() as pid');
    await become(client, who);
    const start = Date.now();
    const run = () => client.query(sql);
    const code = way === 'pg_terminate_backend' ? '57P01' : '57014';
    await assert.rejects(WAYS[way](client, run, pid), { code }, `${sql.slice(0, 100)}: ${way}`);
    assert.ok(Date.now() - start < 30_000, `${way} of ${sql.slice(0, 100)} took ${Date.now() - start} ms`);
    if (code === '57014') assert.equal((await client.query('select pat.jwt_status($1) as status', [tokens.token])).rows[0].status, 'valid');
    await client.end().catch(() => {});
  }
}

const superuser = { role: 'postgres', settings: {} };
const named = (name) => calls(tokens).find((call) => call.name === name);

test('a statement with millions of calls', async () => {
  const many = calls(tokens).filter(({ raises, writes }) => !raises && !writes);
  for (const [n, call] of many.entries()) {
    await endsSoon(`select count(${call.sql}) from generate_series(1, 1000000000) as i`, call, [Object.keys(WAYS)[n % 3]]);
  }
});

test('a block that catches every error but this one', async () => {
  for (const name of ['pat.gate, refused: revoked', 'pat.decode_jwt, refused', 'mint_pat, revoke_pat', 'sign_in, nobody', 'pat.add_signing_key, revoke_signing_key']) {
    const call = named(name);
    await endsSoon(`do $$ begin
      for i in 1..1000000000 loop begin perform ${call.sql}; exception when others then null; end; end loop;
    end $$`, call);
  }
});

test('texts as long as the gate and the doctor of keys read them, again and again', async () => {
  await endsSoon("select count(pat.inspect_api_key(repeat(c, 1000000 + i))) from generate_series(1, 1000000) as i, unnest(array['a.', chr(34), '%41', chr(233)]) as c", superuser);
  await endsSoon("select count(pat.jwt_status(pat.url_encode(repeat('{\"alg\":[', 10000 - i)::bytea) || '.e30.e30')) from generate_series(1, 1000000000) as i", superuser, ['pg_cancel_backend']);
});

test('passwords and key pairs, one after the other', async () => {
  await endsSoon("select sign_up(i || '@example.com', 'correct horse') from generate_series(1, 1000000) as i", superuser);
  await endsSoon("select pat.add_signing_key('RS256') from generate_series(1, 1000000)", superuser);
  assert.equal(cluster.psql('postgres', "select count(*) from auth.users where email ~ '^[0-9]+@'"), '0');
  assert.equal(cluster.psql('postgres', 'select count(*) from pat.signing_keys'), '4');
});

test('changes of many rows are undone', async () => {
  await watcher.query(`insert into pat.api_keys (id, user_id, name, expires_at) select gen_random_uuid(), '${BOB}', 'many', 'infinity' from generate_series(1, 100000)`);
  await watcher.query('create function slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(0.001); return new; end $$');
  await watcher.query('create trigger slowly before update on pat.api_keys for each row execute function slowly()');
  await endsSoon(`select revoke_all_pats('${BOB}')`, superuser);
  assert.equal(cluster.psql('postgres', "select count(*) from pat.api_keys where name = 'many' and revoked_at is null"), '100000');
  await watcher.query('drop trigger slowly on pat.api_keys');
});

test('a definition that is compared with what many users have set', async () => {
  await watcher.query(`insert into pat.user_settings (user_id, settings)
    select gen_random_uuid(), jsonb_build_object('temperature', 1, 'note', repeat('x', 200)) from generate_series(1, 200000)`);
  const define = "select pat.define_setting('temperature', '0', '{\"enum\": [0, 1, 2]}') from generate_series(1, 1000)";
  await endsSoon(define, superuser);
  assert.equal(cluster.psql('postgres', "select default_value from pat.setting_definitions where key = 'temperature'"), '0.7');
  await watcher.query(`delete from pat.user_settings where user_id <> '${ALICE}'`);
});

test('waiting for another transaction', async () => {
  const login = named('set_settings');
  const { rows: [{ token: refresh }] } = await watcher.query(`select refresh_token as token from pat.mint_session('${ALICE}')`);
  const waiting = {
    'mint_pat': [`select mint_pat('${ALICE}', 'robust')`, superuser],
    'revoke_all_pats': [`select revoke_all_pats('${ALICE}')`, superuser],
    'revoke_pat': ["select revoke_pat(((pat.decode_jwt('" + tokens.token + "')).payload ->> 'jti')::uuid)", superuser],
    'set_settings': ["select set_settings('{\"temperature\": 1}')", login],
    'pat.define_setting': ["select pat.define_setting('temperature', '1')", superuser],
    'pat.rotate_signing_key': ["select pat.rotate_signing_key('ed')", superuser],
    'pat.revoke_signing_key': ["select pat.revoke_signing_key('rs')", superuser],
    'refresh_session': [`select refresh_session('${refresh}')`, superuser],
    'sign_in': ["select sign_in('nobody@example.com', 'x')", superuser],
    'pat.deny_token': [`select pat.deny_token('${tokens.token}')`, superuser],
  };
  for (const [name, [sql, who]] of Object.entries(waiting)) {
    const first = await cluster.connect('postgres');
    await become(first, who);
    await first.query('begin');
    await first.query(sql);
    await endsSoon(sql, who);
    await first.query('rollback; begin');
    await first.query(sql).catch((error) => assert.fail(`${name}: ${error.message}`));
    await first.query('rollback');
    await first.end();
  }
});

test('a password hash that would take for ever, or all memory, is not verified', async () => {
  // As an import from elsewhere may bring it: the work on a hash cannot be interrupted. With bcrypt's 18 it takes some
  // fifteen seconds, with 31 more than a day.
  const hashes = [
    '$2a$18$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW',
    '$argon2id$v=19$m=65536,t=400,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc',
  ];
  for (const hash of hashes) {
    await watcher.query('update auth.users set encrypted_password = $1 where id = $2', [hash, BOB]);
    const client = await cluster.connect('postgres');
    await client.query("set statement_timeout = '5s'; set role anon");
    const start = Date.now();
    const { rows: [{ token }] } = await client.query('select (sign_in($1, $2)).access_token as token', ['bob@example.com', 'x']);
    assert.equal(token, null, hash);
    assert.ok(Date.now() - start < 10_000, `${hash} took ${Date.now() - start} ms`);
    await client.end();
  }
});
