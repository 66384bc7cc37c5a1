// Calls each function ten million times in one backend, as far as a call takes no more than some microseconds,
// and tells by how much that grew: in one statement, in one transaction, and in a transaction each.
// CALLS=10000000, and names that a function begins with as arguments.
import { calls, become, loop, prepare, SETTINGS } from '../tests/e2e/calls.mjs';
import { growthDuring, memoryOf } from '../tests/e2e/memory.mjs';
import { Cluster } from '../tests/cluster/cluster.mjs';

const all = Number(process.env.CALLS ?? 10_000_000);
const only = process.argv.slice(2);
/** Nobody waits longer than this, in µs, for what takes longer than most. */
const LONGEST = 3e8;
/** A leak of one byte in ten calls shows. */
const ALLOWED = 1024;

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
const cluster = await Cluster.start({ settings: { ...SETTINGS, synchronous_commit: 'off' } });
const tokens = prepare(cluster);
const chosen = calls(tokens).filter(({ name }) => only.length === 0 || only.some((start) => name.startsWith(start)));
const columns = [44, 12, 14, 16, 18, 10];
const line = (cells) => console.log(cells.map((cell, n) => (n === 0 ? String(cell).padEnd(columns[n]) : String(cell).padStart(columns[n]))).join(''));
line(['function', 'calls', 'a statement', 'a transaction', 'transactions', 'KiB, ok']);
let failed = 0;
for (const call of chosen) {
  const count = Math.min(all, Math.round(LONGEST / call.takes));
  const client = await cluster.connect('postgres');
  const { rows: [{ pid }] } = await client.query('select pg_backend_pid() as pid');
  await become(client, call);
  // Each way takes part of the calls, after a tenth as many to warm up.
  const ways = [
    [0.3, !call.raises && !call.writes, (n) => `select count(${call.sql}) from (select generate_series(1, ${n}) as i) as numbers`],
    // A transaction that goes on writing has to remember more and more.
    [0.5, !call.writes, (n) => loop(call, n)],
    [0.2, true, (n) => loop(call, n, { commit: true })],
  ];
  const share = ways.reduce((sum, [part, applies]) => sum + (applies ? part : 0), 0);
  const growth = [];
  let first;
  let done = 0;
  for (const [part, applies, sql] of ways) {
    const n = Math.ceil(count * part / share);
    if (!applies) {
      growth.push('');
      continue;
    }
    await client.query(sql(Math.ceil(n / 10)));
    first ??= memoryOf(pid);
    const { grown, peak } = await growthDuring(client, pid, sql(n));
    done += n;
    growth.push(`${grown} / ${peak}`);
  }
  const grown = memoryOf(pid) - first;
  const ok = grown <= ALLOWED;
  if (!ok) failed += 1;
  line([call.name, done, ...growth, `${grown} ${ok ? 'yes' : 'NO'}`]);
  await client.end();
}
console.log('\nKiB by which the backend was larger after the calls / at most during them.');
cluster.stop();
process.exit(failed === 0 ? 0 : 1);
