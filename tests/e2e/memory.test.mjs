// Calls keep no memory. `make soak` makes ten million of each; here there are enough of them that what the smallest
// allocation takes, 32 bytes, would show if each call kept one.
import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import { Cluster } from '../cluster/cluster.mjs';
import { become, calls, loop, prepare, SETTINGS } from './calls.mjs';
import { growthDuring } from './memory.mjs';

/** Of each function in each way, about, and not more than so many calls. */
const MICROSECONDS = 200_000;
const MOST = 40_000;
/** In KiB: what a backend grows by in any case, by tables and plans that it comes to know. */
const ALWAYS = 256;
const BYTES_A_CALL = 16;
// A call that `sorts` takes so many KiB for a moment, however often it is made: pat.metrics looks at up to 10,000 events.

let cluster;
let all;

before(async () => {
  cluster = await Cluster.start({ settings: { ...SETTINGS, synchronous_commit: 'off' } });
  all = calls(prepare(cluster));
});

after(() => cluster?.stop());

const WAYS = {
  statement: (call, n) => `select count(${call.sql}) from (select generate_series(1, ${n}) as i) as numbers`,
  transaction: (call, n) => loop(call, n),
  transactions: (call, n) => loop(call, n, { commit: true }),
};

/** The calls that take more memory the more often they are made, and how much. */
async function growing(which, way) {
  const found = [];
  for (const call of all.filter(which)) {
    const count = Math.min(MOST, Math.ceil(MICROSECONDS / call.takes));
    const client = await cluster.connect('postgres');
    const { rows: [{ pid }] } = await client.query('select pg_backend_pid() as pid');
    await become(client, call);
    await client.query(WAYS[way](call, Math.ceil(count / 4)));
    const { peak } = await growthDuring(client, pid, WAYS[way](call, count));
    if (peak * 1024 > (ALWAYS + (call.sorts ?? 0)) * 1024 + count * BYTES_A_CALL) found.push(`${call.name}: ${peak} KiB in ${count} calls`);
    await client.end();
  }
  return found;
}

test('a statement that calls a function for each of its rows takes no more memory for more rows', async () => {
  assert.deepEqual(await growing((call) => !call.writes && !call.raises, 'statement'), []);
});

test('a transaction may make any number of calls, also of such as are refused', async () => {
  assert.deepEqual(await growing((call) => !call.writes, 'transaction'), []);
});

test('a connection may be kept for any number of transactions, also of such as write', async () => {
  assert.deepEqual(await growing(() => true, 'transactions'), []);
});

test('what a session does keep is seen', async () => {
  // A lock of the session is an entry of about 100 bytes in a table of the backend's.
  all.push({ name: 'a lock', sql: 'pg_advisory_lock(i)', takes: 40, role: 'anon', settings: {} });
  const [found, ...others] = await growing(({ name }) => name === 'a lock', 'transaction');
  assert.match(found ?? 'nothing', /^a lock: \d+ KiB in 5000 calls$/);
  assert.deepEqual(others, []);
});

test('a definition is compared with what any number of users have set', async () => {
  const client = await cluster.connect('postgres');
  const { rows: [{ pid }] } = await client.query('select pg_backend_pid() as pid');
  const users = 20_000;
  await client.query(`insert into pat.user_settings (user_id, settings) select gen_random_uuid(), '{"temperature": 1}' from generate_series(1, ${users})`);
  const define = "select pat.define_setting('temperature', '0.7', '{\"type\": \"number\", \"minimum\": 0, \"maximum\": 2}')";
  await client.query(define);
  const { peak } = await growthDuring(client, pid, `${define} from generate_series(1, 2)`);
  await client.end();
  // They are read a thousand at a time, about a KiB each.
  assert.ok(peak < 4096, `${peak} KiB`);
});
