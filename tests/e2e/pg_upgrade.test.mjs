// A database with everything in it goes from one major of Postgres to another, by pg_upgrade.
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Cluster, programs } from '../cluster/cluster.mjs';
import { Installation, installed } from '../cluster/installation.mjs';
import { current, frozen, upgrades } from './releases.mjs';
import { PRELOADED, assertServes, assertWhole, inventory, moveIn } from './lived_in.mjs';

const [from, to] = ['15', '17'];
/** The majors that this run was asked to test. Without the other one, what needs both is skipped. */
const asked = (process.env.TESTED ?? process.env.PG ?? '15').split(' ');
const missing = [from, to].filter((major) => {
  try {
    return !existsSync(join(programs(major), 'pg_upgrade'));
  } catch (error) {
    if (asked.includes(major)) throw error;
    return true;
  }
});

/** Minor releases since November 2026 note a version with each column, as an option that older ones of a later major
 * refuse. Where the newer major is that old, the option is taken away, as pg_dump of a new minor would do. */
function forgetColumnVersions(old, upgraded) {
  const versions = `select count(*) from pg_attribute where attoptions::text like '%pg_attver=%'`;
  if (upgraded.psql('postgres', versions) !== '0') return;
  for (const database of ['app', 'postgres', 'template1']) {
    old.psql(database, `update pg_attribute set attoptions = nullif(array(
      select option from unnest(attoptions) option where option not like 'pg_attver=%'), '{}')
      where attoptions::text like '%pg_attver=%'`);
  }
}

/** Both are stopped. */
function upgrade(old, upgraded, mode) {
  const log = join(upgraded.folder, 'pg_upgrade');
  const stdout = openSync(log, 'w');
  try {
    upgraded.run('pg_upgrade', [
      '-b', old.bin, '-B', upgraded.bin, '-d', old.data, '-p', String(old.port), '-D', upgraded.data, '-P', String(upgraded.port),
      '-s', upgraded.folder, '-U', 'postgres', mode,
    ], { cwd: upgraded.folder, stdout });
  } catch (error) {
    // It names the file that has the reason.
    const files = [log, ...[...readFileSync(log, 'utf8').matchAll(/"(\/.*\.log)"/g)].map(([, name]) => name)];
    error.message = [error.message, ...files.map((file) => readFileSync(file, 'utf8').slice(-3000))].join('\n');
    throw error;
  } finally {
    closeSync(stdout);
  }
}

for (const [mode, world] of [['--copy', 'plain Postgres'], ['--link', 'Supabase']]) {
  test(`from ${from} to ${to} with ${mode}, as on ${world}, all is there and serves`, {
    skip: missing.length > 0 && `Postgres ${missing.join(' and ')} is not installed`,
  }, async () => {
    const old = await Cluster.start({ major: from, settings: PRELOADED });
    const upgraded = await Cluster.start({ major: to, settings: PRELOADED });
    try {
      const credentials = await moveIn(old, world);
      const original = inventory(old);
      forgetColumnVersions(old, upgraded);
      old.control('stop');
      upgraded.control('stop');
      upgrade(old, upgraded, mode);
      upgraded.control('start');
      assertWhole(inventory(upgraded), original, { without: [] });
      await assertServes(upgraded, credentials);
      upgraded.psql('app', 'drop extension supabase_pat cascade; drop schema pat');
    } finally {
      old.stop();
      upgraded.stop();
    }
  });
}

// What it asks for of the extension is the same within a major.
const later = missing.length > 0 ? asked[0] : to;
const earlier = missing.length > 0 ? asked[0] : from;
test(`from ${earlier} to ${later} with 0.1.0 in the database and ${current} installed, it is 0.1.0 still, and then ${current}`, async () => {
  const installation = (major, defaultVersion) => new Installation({
    major, defaultVersion, scripts: { [current]: readFileSync(installed(major).script(current), 'utf8'), ...frozen, ...upgrades },
  });
  const [before, after] = [installation(earlier, '0.1.0'), installation(later, current)];
  const old = await Cluster.start({ major: earlier, bin: before.bin, settings: PRELOADED });
  const upgraded = await Cluster.start({ major: later, bin: after.bin, settings: PRELOADED });
  const version = () => upgraded.psql('app', `select extversion from pg_extension where extname = 'supabase_pat'`);
  try {
    const credentials = await moveIn(old, 'plain Postgres');
    const original = inventory(old);
    if (earlier !== later) forgetColumnVersions(old, upgraded);
    old.control('stop');
    upgraded.control('stop');
    upgrade(old, upgraded, '--link');
    upgraded.control('start');
    assert.equal(version(), '0.1.0');
    assertWhole(inventory(upgraded), original, { without: [] });
    upgraded.psql('app', 'alter extension supabase_pat update');
    assert.equal(version(), current);
    await assertServes(upgraded, credentials);
  } finally {
    old.stop();
    upgraded.stop();
    before.remove();
    after.remove();
  }
});
