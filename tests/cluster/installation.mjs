// A Postgres installation of one's own, in a temporary folder, that has other versions of the extension
// than the machine's: no root is needed for it. A server finds its files relative to its program, so that is
// copied, and all else is linked.
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { programs } from './cluster.mjs';

const NAME = 'supabase_pat';
/** The server, and what finds it where it is itself: a link would lead them away. */
const PROGRAMS = ['postgres', 'pg_ctl'];

/** What is to be removed with this process. */
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

export class Installation {
  /** `scripts`: by what stands between the name and `.sql`, `0.1.0` or `0.1.0--0.2.0`. */
  constructor({ major = process.env.PG ?? '15', defaultVersion, scripts }) {
    const machine = installed(major);
    this.folder = mkdtempSync(join(tmpdir(), 'supabase_pat-installation-'));
    made.add(this);
    // The server is another user than the one who runs the tests, perhaps.
    chmodSync(this.folder, 0o755);
    const own = (path) => join(this.folder, relative('/', path));
    this.bin = own(machine.bindir);

    link(machine.bindir, this.bin, (file) => PROGRAMS.includes(file));
    for (const program of PROGRAMS) copyFileSync(join(machine.bindir, program), join(this.bin, program));
    link(machine.sharedir, own(machine.sharedir), (file) => file === 'extension');
    const extensions = join(own(machine.sharedir), 'extension');
    link(join(machine.sharedir, 'extension'), extensions, (file) => file === `${NAME}.control` || file.startsWith(`${NAME}--`));
    link(machine.pkglibdir, own(machine.pkglibdir), (file) => file === `${NAME}.so`);
    // Copied with the scripts that were built with it, since it may be installed anew meanwhile.
    copyFileSync(machine.library, join(own(machine.pkglibdir), `${NAME}.so`));

    const control = readFileSync(machine.control, 'utf8').replace(/^default_version = .*$/m, `default_version = '${defaultVersion}'`);
    writeFileSync(join(extensions, `${NAME}.control`), control);
    for (const [versions, sql] of Object.entries(scripts)) writeFileSync(join(extensions, `${NAME}--${versions}.sql`), sql);
  }

  remove() {
    made.delete(this);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Links what is in a folder into a new one, but for what is to be copied or left out. */
function link(from, to, isExcepted) {
  mkdirSync(to, { recursive: true });
  for (const file of readdirSync(from)) {
    if (!isExcepted(file)) symlinkSync(join(from, file), join(to, file));
  }
}
