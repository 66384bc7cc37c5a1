// The types of the console's package: those of the database are what its catalogue says, and an editor completes by them.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { FILE, databaseTypes } from '../../scripts/types.mjs';
import { OWN_FUNCTIONS } from '../../console/src/catalogue.js';
import { startCluster } from './fixture.mjs';

const CONSOLE = fileURLToPath(new URL('../../console', import.meta.url));
let cluster;
before(async () => {
  cluster = await startCluster();
});
after(() => cluster?.stop());

test('the types of the database are what the catalogue says', async () => {
  assert.equal(readFileSync(FILE, 'utf8'), await databaseTypes(cluster, 'postgres'), 'node scripts/types.mjs writes them anew');
});

test('the functions that the console does not offer as scopes are those of the extension', () => {
  const names = cluster.psql('postgres', `select distinct proname from pg_proc join pg_depend on objid = pg_proc.oid and deptype = 'e'
    where pronamespace = 'public'::regnamespace and refobjid = (select oid from pg_extension where extname = 'supabase_pat')`).split('\n');
  assert.deepEqual([...OWN_FUNCTIONS].sort(), names.sort());
});

test('an editor completes what there is, and marks what there is not', async () => {
  const compiler = join(CONSOLE, 'node_modules/.bin/tsc');
  const { stdout } = await promisify(execFile)(compiler, ['--project', join(CONSOLE, 'test')]).catch((error) => error);
  assert.equal(stdout, '');
});
