// A crowd through a REST server and a pooler of transactions, over few connections to Postgres: nobody gets
// anything of what another one's request has left behind. SOAK=2000 makes fewer requests, which are the least.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { many, open } from './gate_world.mjs';
import { SQL, USERS } from './pooler_requests.mjs';
import { gather } from './pooler_world.mjs';

const CONNECTIONS = 3;
const AT_A_TIME = 24;

const REQUESTS = Math.max(2000, Number(process.env.SOAK ?? 100_000));

for (const [what, requests, pooling] of [
  ['over three connections', REQUESTS, {}],
  ['over three connections that are reset by DISCARD ALL', Math.max(2000, REQUESTS / 20), { server_reset_query: 'discard all' }],
]) {
  test(`${requests} requests of a crowd ${what} are answered as each alone`, { timeout: 1_800_000 }, async () => {
    const world = await open({
      isPooled: true, pooling, connections: CONNECTIONS, env: { PGRST_DB_POOL: String(AT_A_TIME) }, sql: SQL,
      settings: {
        'supabase_pat.trusted_proxies': 1, 'supabase_pat.live_claims': 'on', 'supabase_pat.max_keys_per_user': 10_000,
        'supabase_pat.next_pre_request': 'public.begin_request',
      },
    });
    const limit = requests / 200;
    const crowd = await gather(world, limit);
    try {
      await many(requests, AT_A_TIME, async (n) => {
        if (n % 40 === 0) await crowd.change();
        await crowd.ask(String(n));
      });

      const { seen, limited } = crowd;
      for (const counts of [seen.statuses, seen.changes]) console.log(JSON.stringify(Object.fromEntries([...counts].sort())));
      console.log(`${seen.sure} of ${seen.asked} requests could be answered in one way only`);
      for (const end of ['whoami 200', 'note 201', 'fail 400', 'timeout 500', 'todos 401', 'report 403', 'report 429']) {
        assert.ok(seen.statuses.has(end), end);
      }
      assert.ok(seen.sure > 0.9 * seen.asked, `${seen.sure} sure`);
      assert.ok(Math.min(...seen.changes.values()) > 0);
      for (const { name, asked, admitted } of limited) assert.equal(admitted, Math.min(asked, limit), name);

      // What was answered to be written is there, and nothing else.
      const notes = await world.rows('select * from notes');
      const found = new Map(notes.filter(({ marker }) => !seen.gone.has(marker)).map((note) => [note.marker, note]));
      assert.deepEqual(found, seen.written);

      const [pool] = (await world.pooler.show('pools')).filter(({ user }) => user === 'authenticator');
      assert.equal(pool.pool_mode, 'transaction');
      const backends = await world.rows(`select from pg_stat_activity where usename = 'authenticator'`);
      assert.equal(backends.length, CONNECTIONS);
      // PgBouncer replaces one whose client is lost amid a transaction.
      const people = [...seen.backends.values()].map(({ size }) => size);
      assert.equal(Math.max(...people), USERS + 3, 'one that has served everybody');
      assert.ok(people.length < requests / 50, `${people.length} backends`);
    } finally {
      await crowd.close();
      await world.close();
    }
  });
}
