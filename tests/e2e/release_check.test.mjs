// What `make release-check` says of copies of the sources that are no release, or a wrong one. Its checks that need
// programs of others, or packages, run with `make release-check` alone.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { changelog, current, released, root } from './releases.mjs';

const copy = mkdtempSync(join(tmpdir(), 'supabase_pat-release-'));
const run = (program, args, options = {}) => spawnSync(program, args, { encoding: 'utf8', maxBuffer: 1e8, cwd: copy, ...options });
const git = (...args) => {
  const done = run('git', ['-c', 'user.name=somebody', '-c', 'user.email=somebody@example.com', '-c', 'commit.gpgsign=false', ...args]);
  assert.equal(done.status, 0, done.stderr);
  return done.stdout;
};
const read = (file) => readFileSync(join(copy, file), 'utf8');
const write = (file, text) => writeFileSync(join(copy, file), text);
const change = (file, from, to) => {
  assert.ok(read(file).includes(from), `${file} has no ${from}`);
  write(file, read(file).replace(from, to));
};
const commit = () => { git('add', '--all'); git('commit', '--quiet', '--message', 'change'); };
/** What it prints, and whether it is content. */
const check = (names, env = {}) => {
  const done = run(process.execPath, ['scripts/release-check.mjs', ...names], { env: { ...process.env, REHEARSE: '', ...env } });
  return { ok: done.status === 0, status: done.status, printed: done.stdout + done.stderr };
};
const passes = (names, env) => {
  const { ok, printed } = check(names, env);
  assert.ok(ok, printed);
  return printed;
};
const fails = (name, pattern, env) => {
  const { status, printed } = check([name], env);
  assert.equal(status, 1, printed);
  assert.match(printed, new RegExp(`^FAILED  ${name}: `, 'm'));
  assert.match(printed, pattern);
};
const heading = changelog.match(/^## .*$/m)[0];
const declare = (text = `## ${current} - 2026-12-01`) => change('CHANGELOG.md', heading, text);

before(() => {
  const listed = run('git', ['-c', 'safe.directory=*', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root });
  assert.equal(listed.status, 0, `a release is made of a clone: ${listed.stderr}`);
  const files = listed.stdout.split('\0').filter((file) => file && existsSync(join(root, file)));
  assert.ok(files.includes('scripts/release-check.mjs'));
  for (const file of files) {
    mkdirSync(dirname(join(copy, file)), { recursive: true });
    copyFileSync(join(root, file), join(copy, file));
  }
  git('init', '--quiet');
  commit();
  git('branch', 'whole');
});
beforeEach(() => {
  git('reset', '--quiet', '--hard', 'whole');
  git('clean', '--quiet', '--force', '-d');
  for (const tag of git('tag', '--list').split('\n').filter(Boolean)) git('tag', '--delete', tag);
});
after(() => rmSync(copy, { recursive: true, force: true }));

test('the sources are as a release needs them, line by line', () => {
  const printed = passes(['commit', 'versions', 'tag', 'frozen', 'upgrades', 'links']);
  assert.deepEqual(printed.trim().split('\n').map((line) => line.match(/^ok {6}(\w+): /)?.[1]), ['commit', 'versions', 'tag', 'frozen', 'upgrades', 'links']);
});

test('a check that is not there is no check that passes', () => {
  const { status, printed } = check(['vresions']);
  assert.equal(status, 2);
  assert.match(printed, /no check vresions; there are commit, declared, /);
});

test('what is not committed is not released', () => {
  write('docs/new.md', '# New\n');
  fails('commit', /not committed:\n\?\? docs\/new\.md/);
});

test('a version that is not declared is no release, and can be rehearsed', () => {
  if (heading !== '## Unreleased') declare('## Unreleased');
  fails('declared', new RegExp(`${current} is not declared: its changes stand under Unreleased, and it is no release`));
  const rehearsed = passes(['declared', 'versions'], { REHEARSE: '1' });
  assert.match(rehearsed, /^NOT SO {2}declared: rehearsed all the same: .* is not declared.*\nok {6}versions/m);
});

test('a declared version has a date, and leaves nothing unreleased', () => {
  if (heading !== '## Unreleased') declare('## Unreleased');
  change('CHANGELOG.md', '## Unreleased', `## ${current}`);
  fails('declared', /has no date/);
  change('CHANGELOG.md', `## ${current}`, `## ${current} - soon`);
  fails('declared', /has no date/);
  change('CHANGELOG.md', `## ${current} - soon`, `## ${current} - 2026-12-01`);
  assert.match(passes(['declared']), /2026-12-01/);
  change('CHANGELOG.md', `## ${current} - 2026-12-01`, `## ${current} - 2026-12-01\n\n## Unreleased`);
  fails('declared', /under Unreleased beside those/);
});

for (const [file, from, to] of [
  ['Cargo.lock', `name = "supabase_pat"\nversion = "${current}"`, 'name = "supabase_pat"\nversion = "9.9.9"'],
  ['META.json', `"version": "${current}",\n  "maintainer"`, '"version": "9.9.9",\n  "maintainer"'],
  ['META.json', `"version": "${current}"\n    }`, '"version": "9.9.9"\n    }'],
]) {
  test(`another version in ${file}, ${from.split('\n').at(-1).trim()}, is found`, () => {
    change(file, from, to);
    fails('versions', new RegExp(`it is ${current.replaceAll('.', '\\.')} in Cargo\\.toml, but ${file}.* has 9\\.9\\.9`));
  });
}

test('another version in the name of a package is found', () => {
  write('docs/packages.md', `# Packages\n\npostgresql-15-supabase-pat_${current}-1_amd64.deb and\npostgresql-17-supabase-pat_9.9.9-1_amd64.deb\n`);
  fails('versions', /docs\/packages\.md, in the name of a package, has 9\.9\.9$/m);
});

test('a control file with a version of its own is found', () => {
  change('supabase_pat.control', '@CARGO_VERSION@', current);
  fails('versions', /supabase_pat\.control does not take it from Cargo\.toml/);
});

test('a version is tagged once, and its commit as nothing else', () => {
  git('tag', `v${current}`);
  passes(['tag']);
  write('note.md', 'One more.\n');
  commit();
  fails('tag', /already: raise the version/);
  git('tag', '--delete', `v${current}`);
  git('tag', 'v9.9.9');
  fails('tag', /is tagged as v9\.9\.9/);
});

test('an earlier version without a tag is found, and can be rehearsed', () => {
  const earlier = released.filter((version) => version !== current);
  for (const version of earlier) git('tag', `v${version}`);
  assert.match(passes(['tags']), new RegExp(`${earlier.map((version) => `v${version}`).join(', ')}$`, 'm'));
  git('tag', '--delete', `v${earlier[0]}`);
  fails('tags', new RegExp(`${earlier[0].replaceAll('.', '\\.')} has no tag here`));
  assert.match(passes(['tags', 'frozen'], { REHEARSE: '1' }), /^NOT SO {2}tags: .*\nok {6}frozen/m);
});

test('a script that was released and has changed is found, with its checksum changed too', () => {
  const [first] = released;
  const script = `sql/releases/supabase_pat--${first}.sql`;
  git('tag', `v${first}`);
  write(script, `${read(script)}-- one more line\n`);
  fails('frozen', /is not what its checksum says/);
  const sum = run('sha256sum', [`releases/supabase_pat--${first}.sql`], { cwd: join(copy, 'sql') }).stdout.trim();
  write('sql/releases/SHA256SUMS', read('sql/releases/SHA256SUMS').replace(new RegExp(`^.*  releases/supabase_pat--${first}\\.sql$`, 'm'), sum));
  fails('frozen', new RegExp(`v${first} had other checksums`));
});

test('a declared version has to be frozen', () => {
  if (released.includes(current)) return;
  declare();
  fails('frozen', new RegExp(`${current} is declared and not frozen: make freeze`));
});

test('a released version that leads nowhere is found', () => {
  const from = released.filter((version) => version !== current).at(-1);
  rmSync(join(copy, `sql/supabase_pat--${from}--${current}.sql`));
  fails('upgrades', new RegExp(`no script in sql leads from .*${from} to ${current}`));
});

test('a link to a page or a heading that is not there is found', () => {
  write('SECURITY.md', `${read('SECURITY.md')}\n[there](docs/nowhere.md)\n`);
  fails('links', /SECURITY\.md: docs\/nowhere\.md/);
  write('SECURITY.md', read('SECURITY.md').replace('docs/nowhere.md', 'docs/releasing.md#nowhere'));
  fails('links', /SECURITY\.md: there is no heading for docs\/releasing\.md#nowhere/);
});

test('an action that is not named by its commit is found', () => {
  const file = '.github/workflows/test.yml';
  write(file, read(file).replace(/actions\/checkout@\S+ # \S+/, 'actions/checkout@v7'));
  fails('workflows', /actions\/checkout@v7 is not named by its commit/);
});
