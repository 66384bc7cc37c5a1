// A database with everything in it goes from one major of Postgres to another, by pg_upgrade.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Cluster, binaries } from '../cluster/cluster.mjs';
import { PRELOADED, assertServes, assertWhole, inventory, moveIn } from './lived_in.mjs';

const isInstalled = (major) => existsSync(join(binaries(major), 'pg_upgrade'));
const MAJORS = ['15', '16', '17', '18'].filter(isInstalled);
const STEPS = MAJORS.flatMap((from) => MAJORS.filter((to) => Number(to) > Number(from)).map((to) => [from, to]));

test('Postgres 15 and 17 are there, which are to be upgraded from and to', {
  skip: ['15', '17'].every(isInstalled) ? false : `there is Postgres ${MAJORS} only; install the others to try pg_upgrade`,
}, () => {});

for (const [from, to] of STEPS) {
  for (const [mode, world] of [['--copy', 'plain Postgres'], ['--link', 'Supabase']]) {
    test(`from ${from} to ${to} with ${mode}, as on ${world}, all is there and serves`, async () => {
      const old = await Cluster.start({ major: from, settings: PRELOADED });
      const upgraded = await Cluster.start({ major: to, settings: PRELOADED });
      try {
        const credentials = await moveIn(old, world);
        const original = inventory(old);
        old.control('stop');
        upgraded.control('stop');
        upgraded.run('pg_upgrade', [
          '-b', old.bin, '-d', old.data, '-p', String(old.port), '-D', upgraded.data, '-P', String(upgraded.port),
          '-s', upgraded.folder, '-U', 'postgres', mode,
        ], { cwd: upgraded.folder });
        upgraded.control('start');
        assertWhole(inventory(upgraded), original, { without: [] });
        await assertServes(upgraded, credentials);
      } finally {
        old.stop();
        upgraded.stop();
      }
    });
  }
}
