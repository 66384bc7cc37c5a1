// The way of a server from one version to the next: the files are replaced while it runs the old library, it is
// restarted, and each database is updated. It needs the library of the version that was released, which is built anew:
// so it runs by `make test-upgrade`.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Cluster } from '../cluster/cluster.mjs';
import { Installation, installed } from '../cluster/installation.mjs';
import { catalogue, differences } from '../e2e/catalogue.mjs';
import { current, frozen, root, upgrades } from '../e2e/releases.mjs';
import { APPLICATION, ROLES, SETTINGS, manyTokens, users } from '../e2e/upgrade_load.mjs';

const major = process.env.PG ?? '15';
const library = execFileSync(join(root, 'scripts', 'released'), ['0.1.0', major], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).trim();
const generated = readFileSync(installed(major).script(current), 'utf8');
const OLD = { defaultVersion: '0.1.0', scripts: frozen, library };
const NEW = { defaultVersion: current, scripts: { [current]: generated, ...frozen, ...upgrades } };
const UPDATE = 'alter extension supabase_pat update';
const USER = '00000000-0000-4000-8000-000000000001';

const rows = async (db, sql, values) => (await db.query(sql, values)).rows;
const value = async (db, sql, values) => Object.values((await rows(db, sql, values))[0])[0];
const version = (db) => value(db, `select extversion from pg_extension where extname = 'supabase_pat'`);
const loaded = (db) => value(db, 'select version from pat.server_state()');
/** How the update says that it needs another library. */
const REFUSED = {
  code: '55000',
  message: 'the update to 0.2.0 needs its library, and this session has loaded that of 0.1.0',
  hint: 'Restart the server if supabase_pat is in shared_preload_libraries, else begin a new session. Nothing was changed.',
};

async function open(settings) {
  const installation = new Installation({ major, ...OLD });
  const cluster = await Cluster.start({ major, bin: installation.bin, settings });
  cluster.psql('postgres', ROLES);
  return {
    installation,
    cluster,
    close() {
      cluster.stop();
      installation.remove();
    },
  };
}

describe(`0.1.0 becomes ${current}, library and objects`, () => {
  test('where the library is preloaded: at each step all goes on as before, and no step is left out by mistake', { timeout: 600_000 }, async (t) => {
    const { installation, cluster, close } = await open(SETTINGS);
    try {
      cluster.psql('postgres', 'create database app');
      cluster.psql('app', APPLICATION);
      cluster.psql('app', manyTokens(20_000));
      const world = await users(cluster, 'app');
      let db = await cluster.connect('app');
      try {
        assert.equal(await loaded(db), '0.1.0');
        await world.lookAround();
        const was = await catalogue(db);

        // The package is installed while the server is at work.
        await world.goOn(async () => {
          installation.put(NEW);
          const after = await cluster.connect('app');
          assert.equal(await loaded(after), '0.1.0');
          await assert.rejects(after.query(UPDATE), REFUSED);
          await after.end();
          await assert.rejects(db.query(UPDATE), REFUSED);
        });
        assert.deepEqual(differences(was, await catalogue(db)), []);
        assert.equal(await version(db), '0.1.0');
        // Nor is there half an extension where there was none.
        cluster.psql('postgres', 'create database other');
        const other = await cluster.connect('other');
        await assert.rejects(other.query('create extension supabase_pat'), { code: '42883', message: /^could not find function "\w+" in file / });
        assert.equal(await value(other, `select count(*)::int from pg_namespace where nspname = 'pat'`), 0);
        await other.end();

        // The new library, and the objects of 0.1.0.
        await db.end();
        await world.restart();
        db = await cluster.connect('app');
        assert.equal(await loaded(db), current);
        await world.lookAround();
        await world.goOn(() => db.query('select pg_sleep(2)'));
        assert.deepEqual([...world.refusals], []);
        assert.equal(await value(db, `select detail from pat.status() where "check" = 'version'`),
          `the library is ${current} and the extension 0.1.0: run alter extension supabase_pat update`);

        const { took, longest, met } = await world.goOn(() => db.query(UPDATE));
        t.diagnostic(`the upgrade took ${Math.round(took)} ms, ${met} requests met it, the longest took ${Math.round(longest)} ms`);
        await world.lookAround();
        assert.deepEqual([...world.refusals], []);
        assert.equal(await value(db, `select ok from pat.status() where "check" = 'version'`), true);
      } finally {
        await db.end();
        await world.close();
      }
    } finally {
      close();
    }
  });

  test('where it is not: sessions that have the old library say so, judge as before, and know of each revocation', async () => {
    const { 'supabase_pat.jwt_secret': secret, shared_preload_libraries: _, ...settings } = SETTINGS;
    const { installation, cluster, close } = await open(settings);
    try {
      cluster.psql('postgres', `create database app; alter database app set "app.settings.jwt_secret" = '${secret}'`);
      cluster.psql('app', APPLICATION);
      const old = await cluster.connect('app');
      const [{ id, token }] = await rows(old, 'select id, token from mint_pat($1, $2)', [USER, 'old']);
      const claims = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
      const notes = async (db) => {
        await db.query('begin');
        await db.query(`select set_config('request.jwt.claims', $1, true), set_config('role', 'authenticated', true)`, [JSON.stringify(claims)]);
        const found = (await db.query({ name: 'notes', text: 'select count(*)::int as n from notes' })).rows[0].n;
        await db.query('commit');
        return found;
      };
      for (let n = 0; n < 7; n += 1) assert.equal(await notes(old), 1);
      installation.put(NEW);
      const later = await cluster.connect('app');
      assert.deepEqual([await loaded(old), await loaded(later)], ['0.1.0', current]);
      assert.deepEqual([await notes(old), await notes(later)], [1, 1]);
      await assert.rejects(old.query(UPDATE), REFUSED);
      await later.query(UPDATE);
      assert.deepEqual([await notes(old), await notes(later)], [1, 1]);
      await assert.rejects(old.query('select mint_pat($1, $2)', [USER, 'of the old library']), { code: '42883', message: /^could not find function "mint_wrapper" in file / });
      // Only the new library knows what is new.
      await later.query('select edit_pat($1, disabled => true)', [id]);
      assert.deepEqual([await notes(old), await notes(later)], [1, 0]);
      await later.query('select edit_pat($1, disabled => false)', [id]);
      await later.query('select revoke_pat($1)', [id]);
      assert.deepEqual([await notes(old), await notes(later)], [0, 0]);
      await old.end();
      await later.end();
    } finally {
      close();
    }
  });
});
