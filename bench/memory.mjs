// Calls each function ten million times in one backend, as far as a call takes no more than some microseconds,
// and tells by how much that grew: in one statement, in one transaction, and in a transaction each. Then whole requests, as
// a REST server sends them to a guarded login, half of them to warm up.
// CALLS=10000000, SECONDS=300 for each at most, and names that a function begins with as arguments (`request` for requests).
import { calls, become, loop, prepare, SETTINGS } from '../tests/e2e/calls.mjs';
import { guardedRequests, GUARD_SETTINGS, LOGIN, makeRequests } from '../tests/e2e/guarded_requests.mjs';
import { growthDuring, memoryOf } from '../tests/e2e/memory.mjs';
import { Cluster } from '../tests/cluster/cluster.mjs';

const all = Number(process.env.CALLS ?? 10_000_000);
const only = process.argv.slice(2);
/** Nobody waits longer than this, in µs, for what takes longer than most. */
const LONGEST = Number(process.env.SECONDS ?? 300) * 1e6;
/** A leak of one byte in ten calls shows. */
const ALLOWED = 1024;

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
const cluster = await Cluster.start({ settings: { ...SETTINGS, ...GUARD_SETTINGS, synchronous_commit: 'off' } });
const tokens = prepare(cluster);
const isChosen = ({ name }) => only.length === 0 || only.some((start) => name.startsWith(start));
const columns = [68, 12, 14, 16, 18, 10];
const line = (cells) => console.log(cells.map((cell, n) => (n === 0 ? String(cell).padEnd(columns[n]) : String(cell).padStart(columns[n]))).join(''));
line(['function', 'calls', 'a statement', 'a transaction', 'transactions', 'KiB, ok']);
let failed = 0;
const report = ({ name, sorts = 0 }, done, growth, grown) => {
  const ok = grown <= ALLOWED + sorts;
  if (!ok) failed += 1;
  line([name, done, ...growth, `${grown} ${ok ? 'yes' : 'NO'}`]);
};
for (const call of calls(tokens).filter(isChosen)) {
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
  report(call, done, growth, memoryOf(pid) - first);
  await client.end();
}
for (const request of guardedRequests(cluster, tokens).filter(isChosen)) {
  const count = Math.ceil(Math.min(all, LONGEST / request.takes) / 2);
  const client = await cluster.connect('postgres', LOGIN);
  const { rows: [{ pid }] } = await client.query('select pg_backend_pid() as pid');
  await makeRequests(client, request, 0, count);
  const { grown, peak } = await growthDuring(client, pid, () => makeRequests(client, request, count, count));
  report(request, 2 * count, ['', '', `${grown} / ${peak}`], grown);
  await client.end();
}
console.log('\nKiB by which the backend was larger after the calls / at most during them.');
cluster.stop();
process.exit(failed === 0 ? 0 : 1);
