// What the library costs those who do not use it: sessions of other logins, in a database without the extension.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { Cluster } from '../tests/cluster/cluster.mjs';

/** In a round each cluster is measured so often, for so many seconds. */
const SLICES = 3;
const SECONDS = 1;

/** Notes `pgbench …`, transactions a second of `pgbench -S`, and `pgbench with / without`, of pairs that follow each other. */
export async function measureBystanders(rounds, note, say) {
  const settings = { autovacuum: 'off', jit: 'off', synchronous_commit: 'off', shared_buffers: '256MB' };
  const clusters = {
    without: await Cluster.start({ settings }),
    with: await Cluster.start({ settings: { ...settings, shared_preload_libraries: 'supabase_pat', 'supabase_pat.fast_auth_functions': 'on' } }),
  };
  const pgbench = (cluster, ...words) => execFileSync(join(cluster.bin, 'pgbench'), [
    '-h', cluster.folder, '-p', String(cluster.port), '-U', 'postgres', ...words, 'postgres',
  ], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  say('pgbench -S with the library and without it');
  for (const cluster of Object.values(clusters)) pgbench(cluster, '-i', '-s', '10', '-q');
  const rate = (cluster) => Number(/^tps = ([\d.]+)/m.exec(pgbench(cluster, '-S', '-c', '2', '-j', '1', '-n', '-T', String(SECONDS)))[1]);
  for (let slice = 0; slice < rounds * SLICES; slice += 1) {
    const rates = {};
    // Each comes first every other time.
    for (const name of slice % 2 ? ['with', 'without'] : ['without', 'with']) rates[name] = rate(clusters[name]);
    note('pgbench with', rates.with);
    note('pgbench without', rates.without);
    note('pgbench with / without', rates.with / rates.without);
  }
  for (const cluster of Object.values(clusters)) cluster.stop();
}
