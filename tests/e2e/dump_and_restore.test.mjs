// A database with everything in it is dumped and restored into new clusters, in all ways that operators have.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Cluster } from '../cluster/cluster.mjs';
import {
  CAROL, NOT_DUMPED, PRELOADED, SETTINGS, WORLDS, assertServes, assertWhole, client, inventory, moveIn,
} from './lived_in.mjs';

const folder = mkdtempSync(join(tmpdir(), 'supabase_pat-dumps-'));
after(() => rmSync(folder, { recursive: true, force: true }));

for (const [world, { admin }] of Object.entries(WORLDS)) {
  describe(world, () => {
    /** Runs a program that has nothing to complain of. */
    function quietly(cluster, program, options) {
      const { status, output, said } = client(cluster, program, options, { user: admin });
      assert.deepEqual([status, said], [0, ''], `${program} ${options.join(' ')}`);
      return output;
    }
    let home;
    let credentials;
    let original;
    let globals;
    let away;
    before(async () => {
      home = await Cluster.start({ settings: PRELOADED });
      credentials = await moveIn(home, world);
      original = inventory(home);
      globals = quietly(home, 'pg_dumpall', ['--globals-only']);
      away = await newCluster();
    });
    after(() => {
      home.stop();
      away.stop();
    });

    const path = (name) => join(folder, `${world} ${name}`);
    const dump = (name, ...options) => {
      quietly(home, 'pg_dump', [...options, '-f', path(name)]);
      return path(name);
    };
    /** A new cluster with the roles of the old one. */
    async function newCluster(settings = PRELOADED) {
      const cluster = await Cluster.start({ settings });
      // The role that the cluster was made with is there.
      const { said } = client(cluster, 'psql', ['-Xq'], { database: 'postgres', input: globals });
      assert.match(said, /^ERROR:  role "postgres" already exists\n$/);
      return cluster;
    }
    async function elsewhere(cluster, use) {
      try {
        await use(cluster);
      } finally {
        cluster.stop();
      }
    }
    const emptyDatabase = (cluster) => {
      cluster.psql('postgres', 'drop database if exists app with (force)');
      cluster.psql('postgres', `create database app owner ${admin}`);
    };
    const psql = (cluster, file, ...options) => quietly(cluster, 'psql', ['-Xq', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', ...options, '-f', file]);
    const restore = (cluster, file, ...options) => quietly(cluster, 'pg_restore', ['-d', 'app', '--exit-on-error', ...options, file]);
    const SECTIONS = ['pre-data', 'data', 'post-data'];

    test('everything is in use that the extension keeps', () => {
      for (const table of original.ours) assert.notEqual(original.rows[table].length, 0, table);
    });

    const WAYS = {
      'plain text': () => psql(away, dump('plain'), '--single-transaction'),
      'INSERT statements': () => psql(away, dump('inserts', '--column-inserts')),
      'a custom archive': () => restore(away, dump('custom', '-Fc'), '--single-transaction'),
      'a directory, with two jobs': () => restore(away, dump('directory', '-Fd', '-j2'), '-j2'),
      'three plain dumps, a section each': () => SECTIONS.forEach((section) => psql(away, dump(section, `--section=${section}`))),
      'a custom archive, section by section': () => {
        const archive = dump('sections', '-Fc');
        for (const section of SECTIONS) restore(away, archive, `--section=${section}`);
      },
      'schema and data apart': () => {
        psql(away, dump('schema', '--schema-only'));
        // As Supabase advises for data.
        psql(away, dump('data', '--data-only'), '-c', 'set session_replication_role = replica');
      },
      'an archive that replaces what is there': () => {
        const archive = dump('again', '-Fc');
        // Those for new objects are not taken back, and would be added to what the archive has.
        const defaults = quietly(home, 'pg_dump', ['--schema-only']).match(/^ALTER DEFAULT PRIVILEGES .*GRANT .*;$/gm)?.join('\n') ?? '';
        restore(away, archive);
        away.psql('app', `delete from pat.denied_tokens; update pat.api_keys set revoked_at = null; select pat.add_signing_key(kid => 'other');
          ${defaults.replaceAll('GRANT', 'REVOKE').replaceAll(' TO ', ' FROM ')}`);
        restore(away, archive, '--clean', '--if-exists');
      },
    };
    for (const [way, come] of Object.entries(WAYS)) {
      test(`restored from ${way}, all is there`, async () => {
        emptyDatabase(away);
        come();
        assertWhole(inventory(away), original);
        // For these it is enough that the same is there.
        if (!/INSERT|section/.test(way)) await assertServes(away, credentials);
      });
    }

    test('restored where the library is not preloaded, all is there and serves', async () => {
      // Without preloading, a secret in postgresql.conf does not count.
      const { 'supabase_pat.jwt_secret': secret, ...settings } = SETTINGS;
      await elsewhere(await newCluster(settings), async (cluster) => {
        emptyDatabase(cluster);
        cluster.psql('app', `alter database app set "app.settings.jwt_secret" = '${secret}'`);
        restore(cluster, dump('for another', '-Fc'));
        assertWhole(inventory(cluster), original);
        await assertServes(cluster, credentials);
      });
    });

    const OF_DATABASE = `select coalesce(setrole::regrole::text, ''), setconfig from pg_db_role_setting
      where setdatabase in (0, (select oid from pg_database where datname = 'app')) order by 1, 2`;

    test('settings of the database come with a dump that creates it', () => {
      away.psql('postgres', 'drop database if exists app with (force)');
      quietly(away, 'pg_restore', ['-d', 'postgres', '--exit-on-error', '--create', dump('create', '-Fc')]);
      assert.equal(away.psql('app', OF_DATABASE), home.psql('app', OF_DATABASE));
      assert.match(away.psql('app', OF_DATABASE), /supabase_pat.issuer=https:\/\/shop.example/);
      assertWhole(inventory(away), original);
    });

    test('a dump of the whole cluster brings all of it', async () => {
      await elsewhere(await Cluster.start({ settings: PRELOADED }), async (cluster) => {
        quietly(home, 'pg_dumpall', ['-f', path('all')]);
        // Whoever restores an extension owns it.
        if (admin !== 'postgres') cluster.psql('postgres', `create role ${admin} login superuser`);
        const { said } = client(cluster, 'psql', ['-Xq', '-o', '/dev/null', '-f', path('all')], { database: 'postgres', user: admin });
        const there = [...new Set(['postgres', admin])];
        assert.deepEqual(said.split('\n').map((line) => line.replace(/.*: ERROR/, 'ERROR')),
          [...there.map((role) => `ERROR:  role "${role}" already exists`), '']);
        assert.equal(cluster.psql('app', OF_DATABASE), home.psql('app', OF_DATABASE));
        assertWhole(inventory(cluster), original);
        await assertServes(cluster, credentials);
      });
    });

    test('events are numbered on', () => {
      emptyDatabase(away);
      restore(away, dump('numbers', '-Fc'));
      const last = Number(home.psql('app', 'select max(id) from pat.events'));
      away.psql('app', `select pat.mint_session('${CAROL}')`);
      assert.equal(away.psql('app', `select id > ${last}, event from pat.events where id > ${last}`), 't|session_minted');
    });

    test('rows come alone into a database that has the rest', () => {
      emptyDatabase(away);
      restore(away, dump('rest', '-Fc'));
      const archive = dump('rows', '-Fc', '--data-only');
      away.psql('app', `truncate notes, todos, auth.users cascade;
        truncate ${original.ours.join(', ')} cascade;`);
      restore(away, archive, '--data-only', '--disable-triggers');
      const restored = inventory(away);
      assertWhole({ ...restored, catalogue: original.catalogue }, original);
      // ALTER TABLE … ENABLE TRIGGER ALL, which ends it, knows no ENABLE ALWAYS or REPLICA.
      const changed = original.catalogue.filter((line) => !restored.catalogue.includes(line));
      assert.ok(changed.length > 0);
      for (const line of changed) assert.match(line, /^\["trigger", .*"fires" : "[AR]".*tell_every_backend/);
    });

    test('without the private keys, only what needs them is lost', () => {
      emptyDatabase(away);
      restore(away, dump('without keys', '-Fc', '--exclude-table-data=pat.private_keys'));
      assertWhole(inventory(away), original, { without: [...Object.keys(NOT_DUMPED), 'pat.private_keys'] });
      const { said } = client(away, 'psql', ['-Xqc', `select pat.sign_jwt('{}')`]);
      assert.equal(said, 'ERROR:  signing key new cannot be read as it is stored\n'
        + 'HINT:  After a restore without private keys, delete the row from pat.signing_keys and add a key.\n');
      // As the README says.
      away.psql('app', `delete from pat.signing_keys; select pat.add_signing_key('ES256', kid => 'fresh'); select pat.rotate_signing_key('fresh')`);
      const { configured, old } = credentials.live;
      const status = (token) => away.psql('app', `select pat.jwt_status('${token}')`);
      assert.deepEqual([configured, old].map(({ token }) => status(token)), ['valid', 'unknown_key']);
      assert.equal(status(away.psql('app', `select pat.sign_jwt('{}', '1 hour')`)), 'valid');
    });

    test('where the roles come later, the rows are there, and the privileges once they are restored again', async () => {
      await elsewhere(await Cluster.start({ settings: PRELOADED }), async (cluster) => {
        if (admin !== 'postgres') cluster.psql('postgres', `create role ${admin} login superuser`);
        emptyDatabase(cluster);
        const archive = dump('without roles', '-Fc');
        const { said } = client(cluster, 'pg_restore', ['-d', 'app', archive], { user: admin });
        for (const error of said.match(/ERROR: .*$/gm)) assert.match(error, /^ERROR:  role "\w+" does not exist$/);
        assertWhole({ ...original, rows: inventory(cluster).rows }, original);

        client(cluster, 'psql', ['-Xq'], { database: 'postgres', input: globals });
        assert.equal(cluster.psql('app', 'select * from pat.grant_api_roles()'), 'anon\nauthenticated\nservice_role');
        // Policies that name a role are lost, which is why roles should come first. Those of the extension have it again.
        const { catalogue } = inventory(cluster);
        const lost = original.catalogue.filter((line) => line.startsWith('["policy"') && !catalogue.includes(line));
        assert.deepEqual(lost.map((line) => JSON.parse(line)[1].policyname), ['by_scope']);
        const privileges = join(folder, `${world} privileges`);
        writeFileSync(privileges, quietly(cluster, 'pg_restore', ['-l', archive]).match(/^.* ACL .*$/gm).join('\n'));
        restore(cluster, archive, `--use-list=${privileges}`);
        const isPrivilege = (line) => /^\["(function|relation|column)", .*(pat\.|api_key|_pat\()/.test(line);
        assert.deepEqual(inventory(cluster).catalogue.filter(isPrivilege), original.catalogue.filter(isPrivilege));
        await assertServes(cluster, credentials);
      });
    });

    test('a dump of the schema public alone fits where the extension is, and brings no tokens', () => {
      emptyDatabase(away);
      away.psql('app', `set role ${admin}; create extension supabase_pat`);
      const { said } = client(away, 'psql', ['-Xq', '-o', '/dev/null', '-f', dump('public', '--schema=public')], { user: admin });
      assert.match(said, /^psql:[^\n]* ERROR:  schema "public" already exists\n$/);
      const { catalogue, rows } = inventory(away);
      assert.deepEqual(rows.todos, original.rows.todos);
      assert.deepEqual(rows['pat.api_keys'], []);
      assert.deepEqual(catalogue.filter((line) => line.startsWith('["policy"')), original.catalogue.filter((line) => line.startsWith('["policy"')));
    });

    test('who is no superuser dumps it with pg_read_all_data, and restores all but what is in pat', async () => {
      home.psql('app', 'create role app_owner login createrole createdb bypassrls');
      try {
        assert.match(client(home, 'pg_dump', ['-f', path('refused')], { user: 'app_owner' }).said, /permission denied/);
        home.psql('app', 'grant pg_read_all_data to app_owner');
        const { said } = client(home, 'pg_dump', ['-Fc', '-f', path('by the owner')], { user: 'app_owner' });
        assert.equal(said, '');
      } finally {
        home.psql('app', 'drop owned by app_owner; drop role app_owner');
      }
      away.psql('postgres', 'drop database if exists app with (force)');
      away.psql('postgres', `create role app_owner login createrole createdb bypassrls;
        grant anon, authenticated, service_role to app_owner;
        create database app owner app_owner;`);
      const archive = path('by the owner');
      away.psql('app', `set role ${admin}; create extension supabase_pat`);
      restore(away, archive, '--data-only', '--schema=pat');
      const { said: errors } = client(away, 'pg_restore', ['-d', 'app', '--no-owner', '--exclude-schema=pat', archive], { user: 'app_owner' });
      // What is the superuser's; the foreign key is one to a table of ours.
      const refused = /^(CREATE SCHEMA pat;|COMMENT ON EXTENSION supabase_pat |ALTER DEFAULT PRIVILEGES FOR ROLE supabase_admin |ALTER TABLE ONLY public.notes\n +ADD CONSTRAINT notes_by_key_fkey )/;
      for (const [, command] of errors.matchAll(/Command was: ([^]*?;)\n/g)) assert.match(command, refused);
      assert.match(errors, /Command was/);
      const restored = inventory(away);
      assertWhole({ ...restored, catalogue: original.catalogue }, original);
      await assertServes(away, credentials);
    });

    test('a privilege that is taken from an API role stays taken', () => {
      const may = (cluster) => cluster.psql('app', `select has_function_privilege('authenticated', 'public.sign_out(text)', 'execute')`);
      home.psql('app', 'revoke execute on function public.sign_out(text) from authenticated');
      assert.equal(may(home), 'f');
      emptyDatabase(away);
      restore(away, dump('privileges', '-Fc'));
      assert.equal(may(away), 'f');
    });
  });
}
