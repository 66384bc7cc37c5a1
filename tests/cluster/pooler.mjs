// PgBouncer between clients and a throwaway cluster, with one server connection for many clients.
import { spawn } from 'node:child_process';
import { chownSync, mkdtempSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { freePort, owner, running } from './cluster.mjs';

// Debian puts it into a folder that is not in the PATH of users who are not root.
const PGBOUNCER = '/usr/sbin/pgbouncer';

/** Settings of a REST server behind a pooler of transactions, as PostgREST's documentation says: prepared statements
 * and LISTEN belong to a session. */
export const REST_SETTINGS = { PGRST_DB_PREPARED_STATEMENTS: 'false', PGRST_DB_CHANNEL_ENABLED: 'false' };

export class Pooler {
  /** Starts a pooler with `size` connections to each database for each user, each lent for one transaction.
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
      // It asks Postgres for the password hashes of the other roles, so that roles may be added and passwords may
      // change.
      auth_user: 'postgres',
      admin_users: 'postgres',
      pool_mode: 'transaction',
      default_pool_size: size,
      max_client_conn: 500,
      // Connections are lent in turn, and not the one that was used last, so that each client gets all of them.
      server_round_robin: 1,
      ignore_startup_parameters: 'extra_float_digits',
      // The REST server's driver gives names to statements that it does not keep, the same ones on each connection.
      // PgBouncer keeps the names of clients apart only since 1.21. Nothing else of a session is reset: what a
      // transaction leaves behind, the next one gets.
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

  /** The rows that its console shows for `what`, `pools` for instance. */
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
    // Since 1.23, SIGTERM waits for the clients.
    this.process.kill('SIGKILL');
  }
}
