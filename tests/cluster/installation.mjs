// A Postgres installation in a temporary folder, with other versions of the extension than the machine has, or another
// build. It needs no root. A server finds its files relative to its program, so the program is copied, and all else is
// linked.
import { spawnSync } from 'node:child_process';
import {
  chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync,
  symlinkSync, writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { programs } from './cluster.mjs';

const NAME = 'supabase_pat';
/** The server, and the programs that look for it beside themselves: through a link they would look elsewhere. */
const PROGRAMS = ['postgres', 'pg_ctl'];

/** The folders to remove when this process ends. */
const made = new Set();
process.once('exit', () => {
  for (const one of made) one.remove();
});

/** Where the machine's Postgres has its files: `bindir`, `sharedir`, `pkglibdir`. */
export function installed(major) {
  const config = (name) => {
    const done = spawnSync(join(programs(major), 'pg_config'), [`--${name}`], { encoding: 'utf8' });
    if (done.status !== 0) throw new Error(`pg_config --${name} failed: ${done.error ?? done.stderr}`);
    return done.stdout.trim();
  };
  const bindir = config('bindir');
  const sharedir = config('sharedir');
  const pkglibdir = config('pkglibdir');
  const script = (file) => join(sharedir, 'extension', file);
  return {
    bindir,
    sharedir,
    pkglibdir,
    library: join(pkglibdir, `${NAME}.so`),
    control: script(`${NAME}.control`),
    /** The install script of a version. */
    script: (version) => script(`${NAME}--${version}.sql`),
    /** The script from one version to the next. */
    upgrade: (from, to) => script(`${NAME}--${from}--${to}.sql`),
  };
}

/**
 * The blocks of a generated script, without pgrx's remarks, such as their places in the sources. Their order is pgrx's.
 */
export function statements(sql) {
  return sql.split('/* <begin connected objects> */')
    .map((block) => block.replace(/\/\*.*?\*\//gs, '').replace(/^--.*$/gm, ''))
    .map((block) => block.split('\n').map((line) => line.trimEnd()).filter(Boolean).join('\n'))
    .filter(Boolean);
}

export class Installation {
  /**
   * It has the library that is installed, or another one, and `scripts` by what stands between the name and `.sql`,
   * `0.1.0` or `0.1.0--0.2.0`. Without `scripts` it has nothing of the extension: see `take`.
   */
  constructor({ major = process.env.PG ?? '15', defaultVersion, scripts, library }) {
    const machine = installed(major);
    this.machine = machine;
    this.folder = mkdtempSync(join(tmpdir(), 'supabase_pat-installation-'));
    made.add(this);
    // The server may run as another user than the tests.
    chmodSync(this.folder, 0o755);
    const own = (path) => join(this.folder, relative('/', path));
    this.bin = own(machine.bindir);

    link(machine.bindir, this.bin, (file) => PROGRAMS.includes(file));
    for (const program of PROGRAMS) copyFileSync(join(machine.bindir, program), join(this.bin, program));
    link(machine.sharedir, own(machine.sharedir), (file) => file === 'extension');
    link(join(machine.sharedir, 'extension'), join(own(machine.sharedir), 'extension'), (file) => file === `${NAME}.control` || file.startsWith(`${NAME}--`));
    link(machine.pkglibdir, own(machine.pkglibdir), (file) => file === `${NAME}.so`);
    if (scripts !== undefined) this.put({ defaultVersion, scripts, library });
  }

  /**
   * Puts files there, as a package does: a library that a running server has loaded is replaced, and not written over.
   * It is copied together with the scripts of the same build, since it may be installed again meanwhile.
   */
  put({ defaultVersion, scripts, library = this.machine.library }) {
    const file = (path) => join(this.folder, relative('/', path));
    copyFileSync(library, `${file(this.machine.library)}.new`);
    renameSync(`${file(this.machine.library)}.new`, file(this.machine.library));

    const control = readFileSync(this.machine.control, 'utf8').replace(/^default_version = .*$/m, `default_version = '${defaultVersion}'`);
    writeFileSync(file(this.machine.control), control);
    for (const [versions, sql] of Object.entries(scripts)) writeFileSync(file(this.machine.script(versions)), sql);
  }

  /**
   * Takes over a package that scripts/build made. Returns whether its library is another than the one before, and what
   * its install script does. A running server keeps the library that it has loaded.
   */
  take(built) {
    const taken = { isNew: false, sql: '' };
    for (const path of readdirSync(built, { recursive: true }).filter((file) => /\.(so|control|sql)$/.test(file))) {
      const [from, to] = [join(built, path), join(this.folder, path)];
      const content = readFileSync(from);
      if (path.endsWith('.so')) taken.isNew = !existsSync(to) || !content.equals(readFileSync(to));
      if (path.split('--').length === 2) taken.sql = statements(content.toString()).sort().join('\n');
      copyFileSync(from, `${to}.new`);
      chmodSync(`${to}.new`, 0o644);
      renameSync(`${to}.new`, to);
    }
    return taken;
  }

  remove() {
    made.delete(this);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Links the files of a folder into a new one, but copies or leaves out some. */
function link(from, to, isExcepted) {
  mkdirSync(to, { recursive: true });
  for (const file of readdirSync(from)) {
    if (!isExcepted(file)) symlinkSync(join(from, file), join(to, file));
  }
}
