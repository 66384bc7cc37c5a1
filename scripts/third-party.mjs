// Writes the licences of all code of others that is linked into the library to a folder. It fails at a licence
// that is not known in licence_texts.mjs.
// Usage: node scripts/third-party.mjs POSTGRES_MAJOR FOLDER
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { thirdParty } from './licence_texts.mjs';

const [major, folder] = process.argv.slice(2);
if (!folder) {
  console.error('usage: node scripts/third-party.mjs POSTGRES_MAJOR FOLDER');
  process.exit(2);
}

const run = (command, ...args) => execFileSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 26, cwd: dirname(dirname(fileURLToPath(import.meta.url))) });
const rustc = run('rustc', '--version', '--verbose');
const host = rustc.match(/^host: (.*)$/m)[1];
const features = ['--no-default-features', '--features', `pg${major}`];
const metadata = JSON.parse(run('cargo', 'metadata', '--locked', '--format-version', '1', '--filter-platform', host, ...features));

mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, 'THIRD-PARTY'), thirdParty([
  `supabase_pat.so holds code of the Rust standard library (${rustc.split('\n')[0]}, MIT OR Apache-2.0,`,
  'Copyright (c) The Rust Project Contributors) and of these Rust crates, under these licences. The',
  'cryptography of aws-lc-sys is AWS-LC, which is made from BoringSSL and OpenSSL.',
], linked().map((crate) => ({ ...crate, folder: dirname(crate.manifest_path) }))));

// The crates in the standard library itself. rustup's toolchains contain this page, Debian's do not.
const standardLibrary = join(run('rustc', '--print', 'sysroot').trim(), 'share/doc/rust/COPYRIGHT-library.html');
if (existsSync(standardLibrary)) copyFileSync(standardLibrary, join(folder, 'rust-standard-library.html'));

/** The crates of others that are linked into the library, without build scripts, macros and tests. */
function linked() {
  const tree = run(
    'cargo', 'tree', '--locked', '--package', 'supabase_pat', '--target', host, ...features,
    '--edges', 'normal,no-proc-macro', '--prefix', 'none', '--format', '{p}',
  );
  const names = new Set(tree.match(/^\S+ v\S+/gm));
  return metadata.packages.filter(({ name, version, source }) => source !== null && names.has(`${name} v${version}`));
}
