// A server whose environment asks Rust for backtraces, as a developer's or a container's may. What fails says where
// to nobody: neither to the client nor in the log.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { ALICE, start } from './fixture.mjs';

const EMAIL = 'alice@example.com';
const PASSWORD = 'the right one';
// What stands in a backtrace of any depth: numbered frames, the paths of sources, and mangled or plain names.
const FRAME = /^\s*\d+: |\/rustc\/|\/registry\/src\/|\bat \S+\.rs:\d|std::|core::|pgrx|supabase_pat::|_ZN\d/m;

for (const wanted of ['1', 'full']) {
  describe(`with RUST_BACKTRACE=${wanted}`, () => {
    let world;
    before(async () => {
      world = await start({
        environment: { RUST_BACKTRACE: wanted },
        isPooled: false,
        settings: {
          'supabase_pat.enable_sign_in': 'on', 'supabase_pat.enable_sign_up': 'on', log_error_verbosity: 'verbose',
          log_min_messages: 'debug1',
        },
        sql: `create extension pgcrypto;
          update auth.users set email = '${EMAIL}', email_confirmed_at = now(), encrypted_password = crypt('${PASSWORD}', gen_salt('bf', 4))
            where id = '${ALICE}';
          create function public.slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(5); return new; end $$;
          create function public.never() returns trigger language plpgsql as $$ begin raise 'never'; end $$;
          create trigger slowly before insert on auth.sessions for each row execute function public.slowly();
          create trigger never before insert on auth.users for each row execute function public.never();
          alter role authenticator set statement_timeout = '700ms';`,
      });
    });
    after(() => world.stop());

    /** The errors of a statement, as a client of Postgres sees them. */
    const errorOf = async (sql, parameters, role) => {
      const db = await world.cluster.connect('postgres');
      try {
        await db.query(`set role ${role}; set statement_timeout = '700ms'`);
        return await db.query(sql, parameters).then(() => undefined, (error) => error);
      } finally {
        await db.end();
      }
    };
    const assertBare = (error) => {
      for (const part of ['message', 'detail', 'hint', 'where', 'file', 'routine']) {
        assert.doesNotMatch(error[part] ?? '', FRAME, part);
      }
      assert.equal(error.detail, undefined);
    };

    test('an error of Postgres that passes through shows a client of Postgres no frame', async () => {
      const cut = await errorOf('select sign_in($1, $2)', [EMAIL, PASSWORD], 'anon');
      assert.equal(cut.code, '57014');
      assertBare(cut);
      const refused = await errorOf(`select sign_up('carol@example.com', 'a password of hers')`, [], 'anon');
      assert.equal(refused.message, 'never');
      assertBare(refused);
      const longName = await errorOf('select pat.uid(), set_settings($1)', ['{'], 'authenticated');
      assert.equal(longName.code, '22P02');
    });

    test('an error of ours shows none', async () => {
      for (const sql of [`select mint_pat(name => '')`, `select sign_out('x')`, `select pat.sign_jwt('1')`, `select pat.url_decode('*')`]) {
        assertBare(await errorOf(sql, [], 'service_role'));
      }
    });

    test('over REST there is none, and a right password that is cut short tells no more than its timeout', async () => {
      const answer = await world.request('POST', '/rpc/sign_in', { body: { email: EMAIL, password: PASSWORD } });
      assert.notEqual(answer.status, 200);
      assert.doesNotMatch(JSON.stringify(answer.data), /rs:|sign_in|session|frame|\\n/);
      assert.equal(answer.data.details ?? null, null);
    });

    test('nulls where no function expects one show none', async () => {
      const error = await errorOf(`select pat.verify_jwt('x', null, null)`, [], 'service_role');
      assertBare(error ?? {});
    });

    test('nor does the log hold one', () => {
      const log = readFileSync(world.cluster.log, 'utf8');
      assert.match(log, /57014/);
      // The places of errors in verbose logs are of one line, and are Postgres's or ours.
      const lines = log.split('\n').filter((line) => !/LOCATION: {2}\w+, [\w./<>-]+:\d+$/.test(line));
      assert.doesNotMatch(lines.join('\n'), /\/rustc\/|^\s*\d+: .*::|core::panicking|std::panic|pgrx_pg_sys|_ZN\d/m);
    });
  });
}
