// Writes the licences of all code of others that is linked into the library to a folder. It fails at a licence
// that is not in the list below.
// Usage: node scripts/third-party.mjs POSTGRES_MAJOR FOLDER
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [major, folder] = process.argv.slice(2);
if (!folder) {
  console.error('usage: node scripts/third-party.mjs POSTGRES_MAJOR FOLDER');
  process.exit(2);
}

// All are permissive. They ask to pass on their text, which this script does.
const KNOWN = ['Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT', 'MIT-0', 'Unicode-3.0', 'Unlicense', 'Zlib'];
const LICENCE_FILE = /^(licen[cs]es?|copying|copyright|notice|unlicense)([-._].*)?$/i;

const run = (command, ...args) => execFileSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 26, cwd: dirname(dirname(fileURLToPath(import.meta.url))) });
const rustc = run('rustc', '--version', '--verbose');
const host = rustc.match(/^host: (.*)$/m)[1];
const features = ['--no-default-features', '--features', `pg${major}`];
const metadata = JSON.parse(run('cargo', 'metadata', '--locked', '--format-version', '1', '--filter-platform', host, ...features));

const crates = linked().sort((a, b) => a.name.localeCompare(b.name) || a.version.localeCompare(b.version));
for (const { name, version, license } of crates) {
  const unknown = (license ?? 'none').split(/ OR | AND |[/()]/).map((id) => id.trim()).filter((id) => id && !KNOWN.includes(id));
  if (unknown.length > 0) {
    console.error(`${name} ${version} has a licence that is not known here: ${unknown.join(', ')}`);
    process.exit(1);
  }
}

// Many crates share one text, with other spaces and line breaks.
const texts = new Map();
for (const crate of crates) {
  for (const text of licenceTexts(crate)) {
    const key = text.replace(/\s+/g, ' ').trim();
    if (!texts.has(key)) texts.set(key, { text: text.replaceAll('\r', '').trimEnd(), crates: new Set() });
    texts.get(key).crates.add(`${crate.name} ${crate.version}`);
  }
}

mkdirSync(folder, { recursive: true });
const rule = '-'.repeat(78);
writeFileSync(join(folder, 'THIRD-PARTY'), [
  `supabase_pat.so holds code of the Rust standard library (${rustc.split('\n')[0]}, MIT OR Apache-2.0,`,
  'Copyright (c) The Rust Project Contributors) and of these Rust crates, under these licences. The',
  'cryptography of aws-lc-sys is AWS-LC, which is made from BoringSSL and OpenSSL.',
  '',
  ...crates.map(({ name, version, license }) => `${name} ${version}: ${license}`),
  ...[...texts.values()].map(({ text, crates }) => `\n${rule}\n${[...crates].join(', ')}\n${rule}\n\n${text}`),
  '',
].join('\n'));

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

/** The licence texts in a crate. Some only say `license = "MIT"`: for these the common text is used. */
function licenceTexts({ name, license, authors, manifest_path: manifest }) {
  const root = dirname(manifest);
  const files = readdirSync(root).filter((file) => LICENCE_FILE.test(file)).map((file) => join(root, file))
    .flatMap((path) => (statSync(path).isDirectory() ? readdirSync(path).map((file) => join(path, file)) : [path]));
  if (files.length > 0) return files.map((file) => readFileSync(file, 'utf8'));
  if (license !== 'MIT') throw new Error(`${name} has no licence file, and is under ${license}`);
  return [`The MIT License

Copyright (c) ${authors.length > 0 ? authors.map((author) => author.replace(/ <.*/, '')).join(', ') : `the authors of ${name}`}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense,
and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so,
subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN
NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY,
WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE
SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`];
}
