// PgBouncer between clients and a throwaway cluster, with one server connection for many clients.
import { spawn } from 'node:child_process';
import { chownSync, mkdtempSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { freePort, owner, running } from './cluster.mjs';

// Debian puts it where users who are not root do not look.
const PGBOUNCER = '/usr/sbin/pgbouncer';

/** What a REST server must be told behind a pooler of transactions, as PostgREST's documentation says: statements
 * that are kept, and LISTEN, belong to a session. */
export const REST_SETTINGS = { PGRST_DB_PREPARED_STATEMENTS: 'false', PGRST_DB_CHANNEL_ENABLED: 'false' };

export class Pooler {
  /** Starts one that has `size` connections to each database for each user, and lends them for a transaction.
   * `settings` goes into pgbouncer.ini. */
  static async start(cluster, { size = 3, settings = {} } = {}) {
    const pooler = new Pooler();
    pooler.port = await freePort();
    pooler.password = cluster.password;
    const folder = mkdtempSync(join(cluster.folder, 'pooler-'));
    const file = (name) => join(folder, name);
    const lines = Object.entries({
      listen_addr: '127.0.0.1',
      listen_port: pooler.port,
      unix_socket_dir: '',
      auth_type: 'scram-sha-256',
      auth_file: file('users'),
      // It asks Postgres for the secrets of all others, so that roles may come and passwords change.
      auth_user: 'postgres',
      admin_users: 'postgres',
      pool_mode: 'transaction',
      default_pool_size: size,
      max_client_conn: 500,
      // One after the other, not the one that was used last: so all of them come by every client.
      server_round_robin: 1,
      ignore_startup_parameters: 'extra_float_digits',
      // The REST server's driver names statements that it does not keep, by the same names on each connection, and
      // PgBouncer keeps clients' names apart from 1.21 on only. Nothing else of a session is reset: whatever a
      // transaction leaves behind, the next one has.
      server_reset_query: 'deallocate all',
      server_reset_query_always: 1,
      ...settings,
    }).map(([name, value]) => `${name} = ${value}\n`);
    const mode = { mode: 0o600 };
    writeFileSync(file('users'), `"postgres" "${cluster.password}"\n`, mode);
    writeFileSync(file('ini'), `[databases]\n* = host=127.0.0.1 port=${cluster.port}\n[pgbouncer]\n${lines.join('')}`, mode);
    const log = openSync(file('log'), 'a', 0o600);
    for (const path of [folder, file('users'), file('ini')]) {
      if (owner.uid !== undefined) chownSync(path, owner.uid, owner.gid);
    }
    pooler.process = spawn(PGBOUNCER, [file('ini')], { cwd: '/', stdio: ['ignore', log, log], ...owner });
    pooler.process.once('error', (error) => { pooler.error = error; });
    running.add(pooler);
    for (let attempt = 0; attempt < 100; attempt += 1) {
      if (pooler.error || pooler.process.exitCode !== null) break;
      try {
        await pooler.show('version');
        return pooler;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
    throw new Error(`PgBouncer did not start: ${pooler.error ?? ''}\n${readFileSync(file('log'), 'utf8')}`);
  }

  /** What its console shows, `pools` for instance: a row for each. */
  async show(what) {
    const console = new pg.Client({ connectionString: this.url('pgbouncer', 'postgres', this.password) });
    await console.connect();
    try {
      return (await console.query(`show ${what}`)).rows;
    } finally {
      await console.end();
    }
  }

  url(database, user, password) {
    return `postgresql://${user}:${password}@127.0.0.1:${this.port}/${database}`;
  }

  /** A connected client of node-postgres. */
  async connect(database, user = 'postgres') {
    const client = new pg.Client({ connectionString: this.url(database, user, this.password) });
    await client.connect();
    return client;
  }

  stop() {
    running.delete(this);
    // From 1.23 on, SIGTERM waits for the clients.
    this.process.kill('SIGKILL');
  }
}
