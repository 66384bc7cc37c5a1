// Runs a page of the documentation from top to bottom, as a reader does who pastes its blocks into one shell and into psql.
// The machine is a throwaway cluster and a proxy. What a page calls beyond them (sudo, systemctl, postgrest) are scripts
// that do the same to these.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Cluster, freePort } from '../cluster/cluster.mjs';
import { Proxy } from '../cluster/proxy.mjs';
import { sections } from './documentation.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const END = '--- the end of a block ---';

const asPostgres = process.getuid() === 0 ? 'runuser -u postgres -- ' : '';
const PROGRAMS = {
  sudo: ({ cluster }) => `
    case "$*" in
      '-u postgres tee '*|'-u postgres chmod '*) shift 2; exec ${asPostgres}"$@" ;;
      '-u postgres '*) shift 2; exec "$@" ;;
      'systemctl restart postgresql')
        cd /
        exec ${asPostgres}${cluster.bin}/pg_ctl -D ${cluster.data} -l ${cluster.log} -w -m fast restart > /dev/null ;;
      'systemctl reload nginx') exit ;;
      # It is what the proxy has been started with.
      'cp '*/packaging/nginx/supabase_paths.conf' /etc/nginx/conf.d/') exec cmp "$2" ${root}packaging/nginx/supabase_paths.conf ;;
    esac
    echo "sudo: $*: this is not known here" >&2
    exit 1`,
  // Those that the tests have.
  npm: () => `[ "$1" = install ] && ln -s ${root}tests/node_modules node_modules`,
  // Its settings as postrust, which takes the part of PostgREST, knows them. That one does not listen for what tells it to
  // look at the schema again, so it is started anew.
  postgrest: () => `
    while IFS='= ' read -r name value; do
      value=\${value#\\"} value=\${value%\\"}
      case $name in
        db-uri) export DATABASE_URL=$value ;;
        db-schemas) export PGRST_DB_SCHEMAS=$value ;;
        db-anon-role) export PGRST_DB_ANON_ROLE=$value ;;
        jwt-secret) case $value in @*) value=$(cat "\${value#@}") ;; esac; export PGRST_JWT_SECRET=$value ;;
        server-host) export PGRST_SERVER_HOST=$value ;;
        server-port) export PGRST_SERVER_PORT=$value ;;
        *) echo "postgrest: $name: this is not known here" >&2; exit 1 ;;
      esac
    done < "$1"
    export PGRST_COMPAT_MODE=true
    echo $$ > ~/.postgrest
    trap : USR1
    trap 'kill $server; exit' TERM
    while :; do
      postrust &
      server=$!
      touch ~/.postgrest.began
      wait $server
      [ $? = 138 ] || exit 1   # SIGUSR1
      kill $server
      wait $server
    done`,
};

const RELOAD = ({ restPort }) => `
  rm -f ~/.postgrest.began
  kill -USR1 $(cat ~/.postgrest)
  until [ -e ~/.postgrest.began ] && curl -s -o /dev/null http://127.0.0.1:${restPort}/; do sleep 0.1; done`;

/** A machine as the pages presume it: Postgres with the extension installed, and nothing in it. */
export async function open({ settings = {}, sql = '', programs: more = {}, smtpPort } = {}) {
  const cluster = await Cluster.start({ settings });
  if (sql) cluster.psql('postgres', sql);
  const restPort = await freePort();
  const proxy = await Proxy.start({ port: restPort });
  const home = mkdtempSync(join(tmpdir(), 'supabase_pat-home-'));
  const programs = join(home, '.programs');
  mkdirSync(programs);
  for (const [name, script] of Object.entries({ ...PROGRAMS, ...more })) {
    writeFileSync(join(programs, name), `#!/bin/bash\n${script({ cluster })}\n`);
    chmodSync(join(programs, name), 0o755);
  }
  symlinkSync(root, join(home, 'supabase_pat'));
  return {
    cluster,
    proxy,
    home,
    restPort,
    /** Ports of the pages are those of this machine. */
    here: (text) => text.replaceAll('127.0.0.1:5432', `127.0.0.1:${cluster.port}`).replaceAll('127.0.0.1:8000', `127.0.0.1:${proxy.port}`)
      // Under that path postrust serves.
      .replaceAll('127.0.0.1:3000', `127.0.0.1:${restPort}/api`).replaceAll('/var/lib/postgresql/', `${cluster.folder}/`)
      .replaceAll('smtp://127.0.0.1:25', `smtp://127.0.0.1:${smtpPort}`)
      .replaceAll('server-port = 3000', `server-port = ${restPort}`),
    env: { ...cluster.env(), HOME: home, PATH: `${programs}:${cluster.bin}:${process.env.PATH}`, LANG: 'C.UTF-8', PGTZ: 'UTC' },
    stop() {
      proxy.stop();
      cluster.stop();
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** The blocks of pages that a reader runs, one after the other. */
export const blocksOf = (page, ...more) => sections(page).flatMap(({ title, blocks }) => blocks
  .filter(({ language }) => ['sh', 'sql', ...more].includes(language)).map((block) => ({ title, ...block })));

/** Lines without the indentation of the first one: a block may stand in a list. */
export const dedented = (code) => code.replace(new RegExp(`^${code.match(/^ */)[0]}`, 'gm'), '');

/** Runs blocks in one shell, each up to its end, and compares what they print. `database` is where SQL goes. */
export async function walk(machine, blocks, { database, env = {} }) {
  const script = blocks.map(({ language, code }) => {
    const text = machine.here(dedented(code));
    const run = language === 'sh' ? text
      : `psql -Xq -P footer=off -P null=null -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never ${database} <<'END_OF_SQL'\n${text}END_OF_SQL\n${text.includes('notify pgrst') ? RELOAD(machine) : ''}`;
    return `${run}\nprintf '%s\\n' '${END}'\n`;
  }).join('');
  const { printed, errors, code } = await bash(machine, `set -euo pipefail\n${script}`, env);
  const outputs = printed.split(`${END}\n`).map((text) => text.replace(/[ \t]+$/gm, '').trimEnd());
  blocks.forEach(({ title, language, code: source, output }, place) => {
    const whole = () => `${title}:\n${source}\n${outputs[place]}\n${errors}\n${logs(machine)}`;
    assert.ok(place < outputs.length - 1, `this was not run to its end: ${whole()}`);
    // SQL that shows nothing of interest prints some of it all the same; a command for a shell that does has gone wrong.
    if (output || language === 'sh') assert.equal(outputs[place], output, whole());
  });
  assert.equal(code, 0, errors);
}

/** The end of the log of the REST server, wherever the page has put it. */
const logs = ({ home }) => ['app/postgrest.log', 'postgrest.log'].map((file) => join(home, file)).filter(existsSync)
  .map((file) => readFileSync(file, 'utf8').slice(-2000)).join('');

function bash({ home, env }, script, more) {
  const child = spawn('bash', ['-s'], { cwd: home, env: { ...env, ...more }, stdio: ['pipe', 'pipe', 'pipe'], detached: true });
  let [printed, errors] = ['', ''];
  child.stdout.on('data', (chunk) => { printed += chunk; });
  child.stderr.on('data', (chunk) => { errors += chunk; });
  child.stdin.end(script);
  // What it has left running in the background holds the pipes open.
  const end = (signal) => {
    try { process.kill(-child.pid, signal); } catch { /* nothing is left */ }
  };
  child.once('exit', () => {
    end('SIGTERM');
    setTimeout(() => end('SIGKILL'), 5000).unref();
  });
  return new Promise((resolve) => { child.once('close', (code) => resolve({ printed, errors, code })); });
}
