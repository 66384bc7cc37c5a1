// Throwaway Postgres clusters for the tests, the benchmark and the demo. Each is in a temporary folder, listens on a
// socket and on loopback, has a password of its own, and is removed when it is stopped.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { appendFileSync, chownSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { LOUD, patterns, secretsIn } from './log_secrets.mjs';

/** With LOG_SECRETS=1 each server logs all that it can, and stopping it fails if a secret is in the log. */
const watchesLogs = process.env.LOG_SECRETS === '1';
const asRoot = process.getuid() === 0;
/** What is to be stopped with this process. */
export const running = new Set();
process.once('exit', () => {
  for (const one of running) {
    try {
      one.stop();
    } catch (error) {
      console.error(error);
      process.exitCode ||= 1;
    }
  }
});
// The test runner ends a test that takes too long in this way. A second signal must not end this process while it stops
// the servers.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

/**
 * A port of the loopback address that is free now, below those that the system gives to outgoing connections: one of
 * these could take it before the server does.
 */
export async function freePort() {
  for (;;) {
    const port = randomInt(10_000, 32_768);
    const isFree = await new Promise((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
}

/** The folder of the programs of a Postgres major. Fails if it is not installed. */
export function programs(major) {
  return execFileSync(fileURLToPath(new URL('../../scripts/postgres', import.meta.url)), [major, 'find'], { encoding: 'utf8' }).trim();
}

/** The user that servers run as, for `spawn`: a server refuses to run as root. Only root can choose another user. */
export const owner = asRoot ? { uid: idOfPostgres('-u'), gid: idOfPostgres('-g') } : {};

function idOfPostgres(flag) {
  return Number(spawnSync('id', [flag, 'postgres']).stdout.toString());
}

function chownToPostgres(...paths) {
  for (const path of paths) chownSync(path, owner.uid, owner.gid);
}

export class Cluster {
  /**
   * Creates and starts a cluster, with the programs in `bin`. `settings` goes into postgresql.conf, `environment` into
   * that of the server.
   */
  static async start({ major = process.env.PG ?? '15', bin = programs(major), settings = {}, environment = {} } = {}) {
    const cluster = new Cluster();
    cluster.bin = bin;
    cluster.environment = environment;
    cluster.folder = mkdtempSync(join(tmpdir(), 'supabase_pat-'));
    cluster.port = await freePort();
    cluster.password = randomBytes(18).toString('base64url');
    cluster.data = join(cluster.folder, 'data');
    cluster.log = join(cluster.folder, 'log');
    const passwordFile = join(cluster.folder, 'password');
    writeFileSync(passwordFile, cluster.password, { mode: 0o600 });
    if (asRoot) {
      chownToPostgres(cluster.folder, passwordFile);
    }
    cluster.run('initdb', ['-D', cluster.data, '-U', 'postgres', '--pwfile', passwordFile,
      '--auth-local', 'trust', '--auth-host', 'scram-sha-256', '--no-sync',
      '--encoding', 'UTF8', '--locale', 'C.UTF-8']);
    cluster.configure({
      listen_addresses: '127.0.0.1',
      unix_socket_directories: cluster.folder,
      port: cluster.port,
      fsync: 'off',
      max_connections: '200',
      ...(watchesLogs ? LOUD : {}),
      // Functions of the tests get tokens as arguments. log_secrecy checks the arguments of the extension's statements.
      ...(watchesLogs && Number(major) >= 16 ? { 'auto_explain.log_parameter_max_length': '0' } : {}),
      ...settings,
    });
    cluster.secrets = [settings['supabase_pat.jwt_secret'] ?? []].flat();
    running.add(cluster);
    cluster.control('start');
    return cluster;
  }

  /** Creates and starts a hot standby of this cluster. */
  async standby() {
    const standby = Object.assign(new Cluster(), { bin: this.bin, password: this.password, secrets: this.secrets, port: await freePort() });
    standby.folder = mkdtempSync(join(tmpdir(), 'supabase_pat-'));
    standby.data = join(standby.folder, 'data');
    standby.log = join(standby.folder, 'log');
    if (asRoot) chownToPostgres(standby.folder);
    this.run('pg_basebackup', ['-h', this.folder, '-p', String(this.port), '-U', 'postgres', '-R', '-c', 'fast', '-D', standby.data]);
    standby.configure({ port: standby.port, unix_socket_directories: standby.folder });
    running.add(standby);
    standby.control('start');
    return standby;
  }

  /** Waits until a standby has applied everything that has been committed here. */
  async caughtUp(standby) {
    const here = this.psql('postgres', 'select pg_current_wal_flush_lsn()');
    for (let attempt = 0; attempt < 200; attempt += 1) {
      if (standby.psql('postgres', `select pg_last_wal_replay_lsn() >= '${here}'`) === 't') return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error('the standby does not catch up');
  }

  /** Adds settings, which are in force from the next restart or reload on. */
  configure(settings) {
    const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value}'\n`);
    appendFileSync(join(this.data, 'postgresql.conf'), lines.join(''));
  }

  control(action) {
    this.run('pg_ctl', ['-D', this.data, '-l', this.log, '-w', '-m', 'fast', action]);
  }

  stop() {
    running.delete(this);
    if (this.folder === undefined || this.kept) return;
    if (existsSync(join(this.data, 'postmaster.pid'))) this.control('stop');
    try {
      if (watchesLogs) this.checkLog();
    } finally {
      rmSync(this.folder, { recursive: true, force: true });
      this.folder = undefined;
    }
  }

  /** Fails if the log has something that looks like a secret and that the client did not send. */
  checkLog() {
    const found = secretsIn(this.log, patterns(this.secrets));
    if (found.length === 0) return;
    const places = [...new Set(found.map(({ name, line, statement }) => `${name}\n  in  ${line}\n  of  ${statement}`))];
    throw new Error(`${found.length} secrets in the log of the server:\n${places.slice(0, 20).join('\n')}`);
  }

  /** Runs a server program as the user that owns the cluster. */
  run(program, args, { cwd = '/', stdout = 'ignore' } = {}) {
    const command = [join(this.bin, program), ...args];
    if (asRoot) command.unshift('runuser', '-u', 'postgres', '--');
    // The server must not keep the pipes of the test runner open.
    const done = spawnSync(command[0], command.slice(1), {
      cwd, stdio: ['ignore', stdout, 'pipe'], env: { PATH: process.env.PATH, LANG: 'C.UTF-8', ...this.environment },
    });
    if (done.status !== 0) {
      let log = '';
      try { log = readFileSync(this.log, 'utf8'); } catch { /* it did not come that far */ }
      throw new Error(`${program} ${args.at(-1)} failed: ${done.error ?? done.stderr}\n${log}`);
    }
  }

  /** Environment for psql and other clients: the superuser, through the socket. */
  env(database = 'postgres') {
    return {
      ...process.env, PGHOST: this.folder, PGPORT: String(this.port), PGUSER: 'postgres', PGDATABASE: database,
    };
  }

  /** Runs SQL with psql and returns what it prints. */
  psql(database, sql) {
    const done = spawnSync(join(this.bin, 'psql'), ['-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', '-'], {
      input: sql, env: this.env(database), encoding: 'utf8',
    });
    if (done.status !== 0) throw new Error(done.stderr);
    return done.stdout.trim();
  }

  /** A connected client of node-postgres. */
  async connect(database, user = 'postgres') {
    const client = new pg.Client({ host: this.folder, port: this.port, user, database });
    await client.connect();
    return client;
  }

  url(database, user, password) {
    return `postgresql://${user}:${password}@127.0.0.1:${this.port}/${database}`;
  }
}

/** A running REST server, compatible with PostgREST, at `url`. */
export class RestServer {
  /** With a `log`, it writes there and outlives this process. */
  static async start(databaseUrl, secret, { anonRole = 'anon', env = {}, log, port } = {}) {
    const server = new RestServer();
    server.port = port ?? await freePort();
    server.output = '';
    const output = log ? openSync(log, 'w') : 'pipe';
    server.process = spawn('postrust', [], {
      detached: log !== undefined,
      stdio: ['ignore', output, output],
      env: {
        PATH: process.env.PATH,
        DATABASE_URL: databaseUrl,
        PGRST_DB_ANON_ROLE: anonRole,
        PGRST_DB_SCHEMAS: 'public',
        PGRST_JWT_SECRET: secret,
        PGRST_SERVER_HOST: '127.0.0.1',
        PGRST_SERVER_PORT: String(server.port),
        PGRST_COMPAT_MODE: 'true',
        ...env,
      },
    });
    if (log) {
      server.process.unref();
    } else {
      for (const stream of [server.process.stdout, server.process.stderr]) {
        stream.on('data', (chunk) => { server.output += chunk; });
      }
      running.add(server);
    }
    server.url = `http://127.0.0.1:${server.port}/api`;
    for (let attempt = 0; attempt < 100; attempt += 1) {
      if (server.process.exitCode !== null) break;
      try {
        await fetch(`${server.url}/`);
        return server;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
    server.stop();
    throw new Error(`the REST server did not start:\n${log ? readFileSync(log, 'utf8') : server.output}`);
  }

  stop() {
    running.delete(this);
    this.process.kill();
  }
}
