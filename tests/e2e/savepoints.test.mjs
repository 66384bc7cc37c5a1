// What is rolled back has not happened: not in the tables, nor in anything that a backend has kept of them.
import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import { Cluster } from '../cluster/cluster.mjs';
import { become, calls, prepare, SETTINGS } from './calls.mjs';
import { ALICE, BOB } from './fixture.mjs';

let cluster;
let tokens;
let writing;
/** The superuser, who looks, and another session, which does. */
let watcher;
let client;

before(async () => {
  cluster = await Cluster.start({ settings: { ...SETTINGS, max_prepared_transactions: 10, 'supabase_pat.flush_interval': 3600 } });
  tokens = prepare(cluster);
  cluster.psql('postgres', "select pat.mint_session('" + ALICE + "'); select mint_pat('" + BOB + "', 'robust')");
  writing = calls(tokens).filter(({ writes, raises }) => writes && !raises);
  watcher = await cluster.connect('postgres');
  client = await cluster.connect('postgres');
});

after(async () => {
  await watcher?.end();
  await client?.end();
  cluster?.stop();
});

const value = async (who, sql, values) => Object.values((await who.query({ text: sql, values, rowMode: 'array' })).rows[0])[0];
const run = ({ sql }, i = 1) => value(client, `select ${sql} from (values (${i}::int)) as numbers(i)`);
const asClient = async (call, body) => {
  await client.query('reset all; reset role');
  await become(client, call);
  try {
    return await body();
  } finally {
    await client.query('rollback; reset role');
  }
};

/** Digests of all tables that the functions write, as `who` sees them. */
async function tables(who) {
  const role = await value(who, 'select current_user');
  await who.query('reset role');
  const { rows } = await who.query(`
    select c.oid::regclass::text as name from pg_class c
    where c.relnamespace in ('pat'::regnamespace, 'auth'::regnamespace) and c.relkind = 'r' order by 1`);
  const found = {};
  for (const { name } of rows) {
    found[name] = await value(who, `select md5(coalesce(string_agg(t::text, '' order by t::text), '')) from ${name} t`);
  }
  await who.query(`set role ${role}`);
  return found;
}

test('rolling back to a savepoint undoes everything that a function has written', async () => {
  for (const call of writing) {
    await asClient(call, async () => {
      const before = await tables(watcher);
      await client.query('begin; savepoint a');
      await run(call);
      assert.notDeepEqual(await tables(client), before, call.name);
      await client.query('rollback to a');
      assert.deepEqual(await tables(client), before, call.name);
      await client.query('savepoint b');
      await run(call, 2);
      await client.query('savepoint c');
      await run(call, 3);
      await client.query('release c; rollback to b; commit');
      assert.deepEqual(await tables(watcher), before, call.name);
    });
  }
});

test('an exception block of PL/pgSQL undoes it too, however deep it lies', async () => {
  for (const call of writing) {
    await asClient(call, async () => {
      const before = await tables(watcher);
      await client.query(`do $do$ declare i int := 1; begin
        begin
          perform ${call.sql};
          begin perform ${call.sql}; perform 1 / 0; exception when division_by_zero then null; end;
          i := 2;
          perform ${call.sql};
          raise 'back';
        exception when raise_exception then null;
        end;
      end $do$`);
      assert.deepEqual(await tables(watcher), before, call.name);
    });
  }
});

test('a savepoint that is released keeps what was written after it', async () => {
  for (const call of writing) {
    await asClient(call, async () => {
      await client.query('begin; savepoint a');
      await run(call, 4);
      await client.query('release a');
      const seen = await tables(client);
      await client.query('commit');
      assert.deepEqual(await tables(watcher), seen, call.name);
    });
  }
});

const NOTIFIES = /^request_password_reset|outbox|sign_up|verify_reset_code, wrong|reset_password/;

test('a transaction can be prepared, and counts when that is committed, unless it tells the mail worker', async () => {
  for (const call of writing) {
    await asClient(call, async () => {
      const before = await tables(watcher);
      for (const end of ['rollback', 'commit']) {
        await client.query('begin');
        await run(call, 5);
        const seen = await tables(client);
        if (NOTIFIES.test(call.name)) {
          await assert.rejects(client.query("prepare transaction 'ours'"), { code: '0A000' }, call.name);
          assert.deepEqual(await tables(watcher), before, call.name);
          continue;
        }
        await client.query("prepare transaction 'ours'");
        assert.deepEqual(await tables(watcher), before, call.name);
        await watcher.query(`${end} prepared 'ours'`);
        assert.deepEqual(await tables(watcher), end === 'commit' ? seen : before, call.name);
      }
    });
  }
});

/** Does something in a savepoint, and compares an answer before it, after it, and once it has been rolled back. */
async function answers(who, change, ask, [first, then]) {
  for (const session of [client, watcher]) assert.deepEqual(await ask(session), first);
  await client.query('begin; savepoint a');
  await change(client);
  assert.deepEqual(await ask(client), then);
  assert.deepEqual(await ask(watcher), first, 'not committed');
  await client.query('rollback to a');
  assert.deepEqual(await ask(client), first, 'rolled back to the savepoint');
  await client.query('savepoint b');
  await change(client);
  assert.deepEqual(await ask(client), then, 'again');
  await client.query('rollback to b; commit');
  for (const session of [client, watcher]) assert.deepEqual(await ask(session), first, 'after the transaction');
}

const superuser = { role: 'postgres', settings: {} };
const status = (token) => (session) => value(session, 'select pat.jwt_status($1)', [token]);
const keyOf = async (token) => value(watcher, "select (pat.decode_jwt($1)).payload ->> 'jti'", [token]);

test('a revocation that is rolled back leaves the token valid', async () => {
  await asClient(superuser, async () => {
    const id = await keyOf(tokens.token);
    await answers(client, () => client.query('select revoke_pat($1)', [id]), status(tokens.token), ['valid', 'revoked']);
    await answers(client, () => client.query('select revoke_all_pats($1)', [ALICE]), status(tokens.token), ['valid', 'revoked']);
    await answers(client, () => client.query("delete from pat.api_keys where id = $1", [id]), status(tokens.token), ['valid', 'revoked']);
    await answers(client, () => client.query("update auth.users set banned_until = 'infinity' where id = $1", [ALICE]), status(tokens.token), ['valid', 'revoked']);
  });
});

test('the checks of policies and the gate say so too, in the same transaction', async () => {
  const call = calls(tokens).find(({ name }) => name === 'pat.gate, JWT');
  const id = await keyOf(tokens.token);
  await asClient(call, async () => {
    const ask = async () => {
      await client.query('savepoint asking');
      const gate = await client.query('select pat.gate()').then(() => 'passes', ({ message }) => message);
      await client.query('rollback to asking');
      return [await value(client, 'select is_valid_api_token()'), gate];
    };
    await client.query('begin; savepoint a');
    assert.deepEqual(await ask(), [true, 'passes']);
    await client.query('select revoke_pat($1)', [id]);
    assert.deepEqual(await ask(), [false, 'the personal access token has been revoked']);
    await client.query('rollback to a');
    assert.deepEqual(await ask(), [true, 'passes']);
  });
});

test('a token that was minted and rolled back is unknown', async () => {
  await asClient(superuser, async () => {
    await client.query('begin; savepoint a');
    const token = await value(client, "select token from mint_pat($1, 'robust')", [ALICE]);
    assert.equal(await status(token)(client), 'valid');
    assert.equal(await status(token)(watcher), 'revoked');
    await client.query('rollback to a');
    assert.equal(await status(token)(client), 'revoked');
    await client.query('commit');
    for (const session of [client, watcher]) assert.equal(await status(token)(session), 'revoked');
  });
});

test('signing keys that were added, rotated or revoked and rolled back are as they were', async () => {
  const kids = async (session) => (await value(session, 'select pat.jwks()')).keys.map(({ kid }) => kid).sort();
  const signs = async (session) => (await value(session, `select (pat.decode_jwt(pat.sign_jwt('{}'))).header ->> 'kid'`));
  const { rows: [{ current }] } = await watcher.query("select (select kid from pat.signing_keys where status = 'current') as current");
  const other = ['es', 'ed', 'rs', 'hs'].find((kid) => kid !== current);
  const before = await kids(watcher);
  await asClient(superuser, async () => {
    await answers(client, () => client.query("select pat.add_signing_key('ES256', kid => 'new')"), kids, [before, [...before, 'new'].sort()]);
    await answers(client, () => client.query('select pat.rotate_signing_key($1)', [other]), signs, [current, other]);
    const token = await value(watcher, "select pat.sign_jwt('{}', '1 hour')");
    await answers(client, async () => {
      await client.query('select pat.rotate_signing_key($1)', [other]);
      await client.query('select pat.revoke_signing_key($1)', [current]);
    }, status(token), ['valid', 'revoked']);
  });
});

test('a token that was denied and rolled back is accepted', async () => {
  await asClient(superuser, async () => {
    await answers(client, () => client.query('select pat.deny_token($1)', [tokens.serviceKey]), status(tokens.serviceKey), ['valid', 'revoked']);
  });
});

test('settings that were defined, set or dropped and rolled back are as they were', async () => {
  const call = calls(tokens).find(({ name }) => name === 'get_settings');
  await become(watcher, call);
  try {
    await asClient(call, async () => {
      const ask = (session) => value(session, 'select get_settings()');
      const before = await ask(client);
      const trusted = async (sql) => {
        await client.query('reset role');
        await client.query(sql);
        await client.query('set role authenticated');
      };
      await answers(client, () => client.query(`select set_settings('{"temperature": 0}')`), ask, [before, { ...before, temperature: 0 }]);
      await answers(client, () => trusted("select pat.define_setting('more', '1')"), ask, [before, { ...before, more: 1 }]);
      const { editor, ...rest } = before;
      await answers(client, () => trusted("select pat.drop_setting('editor')"), ask, [before, rest]);
    });
  } finally {
    await watcher.query('reset role');
  }
});

test('a session that was begun and rolled back is none, and one that was ended goes on', async () => {
  await asClient(superuser, async () => {
    const id = JSON.parse(tokens.claims.login).session_id;
    const ask = async (session) => {
      await session.query("select set_config('request.jwt.claims', $1, false)", [tokens.claims.login]);
      return value(session, 'select is_active_session()');
    };
    await answers(client, () => client.query('delete from auth.sessions where id = $1', [id]), ask, [true, false]);
    await answers(client, () => client.query('select sign_out()'), ask, [true, false]);
  });
});

test('wrong codes alone count although they are rolled back', async () => {
  await asClient(superuser, async () => {
    const { rows: [{ token, code }] } = await client.query("select * from pat.issue_reset_code('alice@example.com')");
    const wrong = String((Number(code) + 1) % 10 ** code.length).padStart(code.length, '0');
    const tries = async (typed) => value(client, 'select verify_reset_code($1, $2)', [token, typed]);
    assert.equal(await tries(code), true);
    const before = await tables(watcher);
    for (let n = 0; n < 5; n += 1) {
      await client.query('begin; savepoint a');
      assert.equal(await tries(wrong), false);
      await client.query('rollback to a; commit');
    }
    assert.deepEqual(await tables(watcher), before);
    assert.equal(await tries(code), false);
  });
});

test('columns, triggers and COPY know which token writes', async () => {
  await watcher.query(`
    create table notes (body text, by_key uuid default current_api_key_id(), owner uuid default pat.uid(), valid boolean);
    create function note() returns trigger language plpgsql as 'begin new.valid := is_valid_api_token(); return new; end';
    create trigger note before insert on notes for each row execute function note();
    grant select, insert on notes to authenticated`);
  const call = calls(tokens).find(({ name }) => name === 'is_valid_api_token, token');
  const id = await keyOf(tokens.token);
  await asClient(call, async () => {
    await client.query("insert into notes (body) values ('a')");
    await client.query('begin; savepoint a');
    await client.query('select revoke_pat($1)', [id]);
    await client.query("insert into notes (body) values ('b')");
    assert.equal(await value(client, "select valid from notes where body = 'b'"), false);
    await client.query('rollback to a');
    await client.query("insert into notes (body) values ('c'); commit");
  });
  cluster.psql('postgres', `set request.jwt.claims = '${tokens.claims.token}'; set role authenticated;\ncopy notes (body) from stdin;\nd\n\\.\n`);
  const { rows } = await watcher.query('select * from notes order by body');
  assert.deepEqual(rows, ['a', 'c', 'd'].map((body) => ({ body, by_key: id, owner: ALICE, valid: true })));
  assert.equal(cluster.psql('postgres', `set request.jwt.claims = '${tokens.claims.token}'; set role authenticated;
    copy (select count(*) from notes where pat.uid() = owner and is_valid_api_token()) to stdout`), '3');
});

test('a cursor asks at each FETCH, and one WITH HOLD when its transaction ends', async () => {
  await watcher.query('create policy "live tokens" on notes using (is_valid_api_token()); alter table notes enable row level security');
  const call = calls(tokens).find(({ name }) => name === 'is_valid_api_token, token');
  const id = await keyOf(tokens.token);
  await asClient(call, async () => {
    await client.query('begin; declare held cursor with hold for select body from notes; declare plain cursor for select body from notes');
    assert.equal((await client.query('fetch 1 from plain')).rowCount, 1);
    await client.query('savepoint a');
    await watcher.query('begin');
    await watcher.query('select revoke_pat($1)', [id]);
    await watcher.query('commit');
    assert.equal((await client.query('fetch all from plain')).rowCount, 0);
    await client.query('commit');
    assert.equal((await client.query('fetch all from held')).rowCount, 0);
    await client.query('close held');
  });
});
