// All of a release but the tag: one line a check, and an end at the first that is not so.
// Usage: node scripts/release-check.mjs [CHECK…]. Without names it makes all of them, in the order below.
// REHEARSE=1 goes on where CHANGELOG.md has not declared the version, or a tag is missing. TESTED names the Postgres majors of the packages.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const rehearses = process.env.REHEARSE === '1';
const majors = (process.env.TESTED ?? '15 17').split(' ').filter(Boolean);
const PGXN_META = '0.7.0';

const path = (...parts) => join(root, ...parts);
const read = (file) => readFileSync(path(file), 'utf8');
const lines = (text) => text.split('\n').filter(Boolean);
class NotSo extends Error {}
const fail = (message) => { throw new NotSo(message); };

const version = read('Cargo.toml').match(/^\[workspace\.package\]\nversion = "(.+)"$/m)?.[1];
const changelog = read('CHANGELOG.md');
const declared = [...changelog.matchAll(/^## (\d\S*)(?: - (.*))?$/gm)].map(([, name, date]) => ({ name, date }));
const isDeclared = declared[0]?.name === version;
const tracked = () => lines(git('ls-files', '--cached', '--others', '--exclude-standard')).filter((file) => existsSync(path(file)));

const CHECKS = {
  commit: ['what is here is what is committed', () => {
    const changed = git('status', '--porcelain');
    if (changed) fail(`not committed:\n${changed}`);
    return git('rev-parse', '--short', 'HEAD').trim();
  }],

  declared: ['CHANGELOG.md declares the version', () => {
    if (isDeclared) {
      const { date } = declared[0];
      if (!/^\d{4}-\d\d-\d\d$/.test(date ?? '') || Number.isNaN(Date.parse(date))) fail(`the heading of ${version} has no date: ## ${version} - YYYY-MM-DD`);
      if (/^## Unreleased/m.test(changelog)) fail(`there are changes under Unreleased beside those of ${version}`);
      return `${version} of ${date}`;
    }
    const missing = `${version} is not declared: its changes stand under ${changelog.match(/^## (.*)$/m)?.[1]}, and it is no release`;
    if (!rehearses) fail(`${missing}. With REHEARSE=1 the other checks are made all the same`);
    return { rehearsed: missing };
  }],

  versions: ['the version is the same everywhere', () => {
    const wrong = [];
    const expect = (where, found) => { if (found !== version) wrong.push(`${where} has ${found ?? 'none'}`); };
    const lock = read('Cargo.lock');
    for (const crate of ['supabase_pat', 'supabase_pat_core']) {
      expect(`Cargo.lock, ${crate},`, lock.match(new RegExp(`name = "${crate}"\nversion = "(.*)"`))?.[1]);
    }
    const meta = JSON.parse(read('META.json'));
    expect('META.json', meta.version);
    for (const [name, { version: provided }] of Object.entries(meta.provides ?? {})) expect(`META.json, ${name},`, provided);
    if (!/^default_version = '@CARGO_VERSION@'$/m.test(read('supabase_pat.control'))) wrong.push('supabase_pat.control does not take it from Cargo.toml');
    for (const file of tracked().filter((name) => name.endsWith('.md') && name !== 'CHANGELOG.md')) {
      for (const [, found] of read(file).matchAll(/supabase-pat_(\d[\w.~]*)-1_/g)) expect(`${file}, in the name of a package,`, found);
    }
    if (wrong.length > 0) fail(`it is ${version} in Cargo.toml, but ${wrong.join('; ')}`);
    return version;
  }],

  tag: ['the tag is of this commit, or free', () => {
    const tagged = lines(git('tag', '--list', `v${version}`)).length > 0 && git('rev-parse', `v${version}^{commit}`).trim();
    if (tagged && tagged !== git('rev-parse', 'HEAD').trim()) fail(`v${version} is ${tagged.slice(0, 12)} already: raise the version`);
    const others = lines(git('tag', '--points-at', 'HEAD', '--list', 'v*')).filter((tag) => tag !== `v${version}`);
    if (others.length > 0) fail(`this commit is ${version}, and is tagged as ${others.join(', ')}`);
    return tagged ? 'this commit is' : `v${version} is free`;
  }],

  tags: ['each earlier version has its tag', () => {
    const tags = lines(git('tag', '--list', 'v*'));
    const earlier = declared.map(({ name }) => name).filter((name) => name !== version);
    const missing = earlier.filter((name) => !tags.includes(`v${name}`));
    if (missing.length === 0) return earlier.map((name) => `v${name}`).join(', ') || 'there is none';
    const untagged = `${missing.join(', ')} has no tag here, so its checksums are compared with nothing: git fetch --tags, or tag the commit that declared it`;
    if (!rehearses) fail(untagged);
    return { rehearsed: untagged };
  }],

  frozen: ['what was released is as it was', () => {
    const sums = lines(read('sql/releases/SHA256SUMS'));
    for (const line of sums) {
      const [, sum, file] = line.match(/^([0-9a-f]{64}) {2}(\S+)$/) ?? fail(`SHA256SUMS: ${line}`);
      if (!existsSync(path('sql', file))) fail(`sql/${file} is gone`);
      if (createHash('sha256').update(read(`sql/${file}`)).digest('hex') !== sum) fail(`sql/${file} is not what its checksum says`);
    }
    const frozen = releases();
    const missing = declared.map(({ name }) => name).filter((name) => !frozen.includes(name));
    if (missing.length > 0) fail(`${missing.join(', ')} is declared and not frozen: make freeze`);
    const undeclared = frozen.filter((name) => !declared.some((one) => one.name === name));
    if (undeclared.length > 0) fail(`${undeclared.join(', ')} is frozen and not declared`);
    for (const file of [...frozen.map((name) => `releases/supabase_pat--${name}.sql`), ...upgrades().filter(([, to]) => frozen.includes(to)).map(([from, to]) => `supabase_pat--${from}--${to}.sql`)]) {
      if (!sums.some((line) => line.endsWith(`  ${file}`))) fail(`SHA256SUMS has no ${file}`);
    }
    for (const tag of lines(git('tag', '--list', 'v*'))) {
      const then = lines(git('show', `${tag}:sql/releases/SHA256SUMS`));
      const changed = then.filter((line) => !sums.includes(line));
      if (changed.length > 0) fail(`${tag} had other checksums: ${changed.join(', ')}`);
    }
    return `${frozen.join(', ')}, scripts: ${sums.length}`;
  }],

  upgrades: ['each released version leads to this one', () => {
    const reached = new Set([version]);
    for (let size = 0; size !== reached.size;) {
      size = reached.size;
      for (const [from, to] of upgrades()) if (reached.has(to)) reached.add(from);
    }
    const stranded = releases().filter((name) => !reached.has(name));
    if (stranded.length > 0) fail(`no script in sql leads from ${stranded.join(', ')} to ${version}`);
    return `from ${releases().filter((name) => name !== version).join(', ') || 'none'}`;
  }],

  links: ['links of the documentation lead somewhere', () => {
    const pages = tracked().filter((name) => name.endsWith('.md'));
    let count = 0;
    for (const file of pages) {
      const prose = read(file).replace(/^ *```[^]*?^ *```$|<!--[^]*?-->/gm, '');
      for (const [, target] of prose.matchAll(/\]\((?!https?:|mailto:)([^)\s]*)\)/g)) {
        const [to, fragment] = target.split('#');
        const found = to === '' ? file : relative(root, path(dirname(file), to));
        if (!existsSync(path(found))) fail(`${file}: ${target}`);
        if (fragment && found.endsWith('.md') && !anchors(read(found)).has(fragment)) fail(`${file}: there is no heading for ${target}`);
        count += 1;
      }
    }
    return `${count} in ${pages.length} pages; addresses of the web are not asked`;
  }],

  meta: ['META.json is what PGXN takes', () => {
    run(registryTool('pgxn_meta', PGXN_META), [path('META.json')]);
    return `by PGXN's own pgxn_meta ${PGXN_META}`;
  }],

  workflows: ['the workflows of GitHub Actions are sound', () => {
    const folder = '.github/workflows';
    const files = readdirSync(path(folder)).map((file) => `${folder}/${file}`);
    for (const file of files) {
      for (const [, action] of read(file).matchAll(/^\s*(?:- )?uses: *(.*)$/gm)) {
        if (!/^\.\/|@[0-9a-f]{40} # v\d/.test(action)) fail(`${file}: ${action} is not named by its commit, with its version beside it`);
      }
    }
    run(goTool('actionlint', 'github.com/rhysd/actionlint/cmd/actionlint'), ['-no-color', '-shellcheck', lintTool('shellcheck'), '-pyflakes=', ...files]);
    run(lintTool('zizmor'), ['--offline', '--quiet', '--no-progress', '--color=never', ...files]);
    return `${files.length}, by actionlint, shellcheck and zizmor`;
  }],

  docker: ['the Dockerfiles and the compose file are sound', () => {
    run(lintTool('hadolint'), ['--no-color', '--failure-threshold', 'warning', 'packaging/docker/Dockerfile', 'packaging/docker/console.Dockerfile']);
    run(lintTool('shellcheck'), ['packaging/docker/console.sh']);
    const files = ['tests/release/supabase_stack.yml', 'packaging/docker/docker-compose.supabase_pat.yml'];
    const env = { SUPABASE_PAT_SOURCE: root, SUPABASE_POSTGRES_TAG: '17.6.1.136', SUPABASE_POSTGRES_MAJOR: '17', JWT_SECRET: 'not-a-secret',
      ANON_KEY: 'not-a-key', SUPABASE_PUBLIC_URL: 'https://api.example.com' };
    const { services } = JSON.parse(run(goTool('compose', '.'), files, { env: { ...process.env, ...env } }));
    for (const { build } of [services.db, services.console]) {
      if (!existsSync(join(build.context, build.dockerfile))) fail(`there is no ${build.dockerfile}`);
      const copied = [...read(build.dockerfile).matchAll(/^COPY (?!--from)(?:--\S+ )?(.*) \S+$/gm)].flatMap(([, from]) => from.split(' '));
      for (const file of copied) if (!existsSync(path(file))) fail(`${build.dockerfile} copies ${file}, which is not there`);
    }
    for (const { host_ip: address } of services.console.ports) if (address !== '127.0.0.1') fail(`the console listens on ${address}`);
    for (const name of Object.keys(services.console.environment)) {
      if (!read('packaging/docker/console.sh').includes(`\${${name}:-`)) fail(`console.sh does not read ${name}`);
    }
    if (services.db.image === 'supabase/postgres:17.6.1.136') fail('the image that is built has the name of Supabase\'s');
    for (const { target } of services.db.secrets) if (!read('packaging/docker/Dockerfile').includes(target)) fail(`the Dockerfile does not read ${target}`);
    return 'by hadolint and compose-go; no image was built';
  }],

  licences: ['the licences and sources of what is linked in are known', () => {
    run('make', ['--no-print-directory', `PG=${majors[0]}`, 'audit']);
    return 'by make audit';
  }],

  sbom: ['there are bills of materials', () => {
    const [ofConsole, file] = lines(run('make', ['--no-print-directory', `PG=${majors[0]}`, 'sbom'])).slice(-2);
    for (const { name, licenses, hashes } of JSON.parse(read(ofConsole)).components) {
      if (!licenses?.length || !hashes?.length) fail(`${ofConsole} has no licence or hash of ${name}`);
    }
    const text = read(file);
    if (text.includes(root)) fail(`${file} names ${root}`);
    const { components, specVersion } = JSON.parse(text);
    const listed = new Map(components.map((one) => [`${one.name} v${one.version}`, one]));
    for (const crate of linked(majors[0])) {
      const { licenses, hashes, purl } = listed.get(crate) ?? fail(`${file} has no ${crate}, which is linked in`);
      if (!licenses?.length || !hashes?.length || !purl) fail(`${file} has no licence, hash or address of ${crate}`);
    }
    return `${file}: ${components.length} components, CycloneDX ${specVersion}`;
  }],

  packages: ['the packages hold what they should', () => {
    const names = majors.map((major) => {
      run('make', ['--no-print-directory', `PG=${major}`, 'deb']);
      return packageOf(major);
    });
    return [...names, consolePackage()].join('');
  }],
};

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !(name in CHECKS));
if (unknown.length > 0) {
  console.error(`there is no check ${unknown.join(', ')}; there are ${Object.keys(CHECKS).join(', ')}`);
  process.exit(2);
}
for (const [name, [claim, check]] of Object.entries(CHECKS)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  try {
    const found = check();
    console.log(found.rehearsed ? `NOT SO  ${name}: rehearsed all the same: ${found.rehearsed}` : `ok      ${name}: ${claim}: ${found}`);
  } catch (error) {
    if (!(error instanceof NotSo)) throw error;
    console.log(`FAILED  ${name}: it is not so that ${claim}: ${error.message}`);
    process.exit(1);
  }
}
if (wanted.length === 0) {
  console.log(isDeclared ? `\nAll is so. After make test: git tag v${version}` : `\nA rehearsal: all is so but for the declaration, and ${version} is no release.`);
}

function run(program, args, options) {
  const done = spawnSync(program, args, { cwd: root, encoding: 'utf8', maxBuffer: 1e8, ...options });
  if (done.error) fail(`${program} does not run: ${done.error.message}`);
  if (done.status !== 0) fail(`${relative(root, program).replace(/^\.\..*/, program)} ${args.join(' ')}\n${done.stdout}${done.stderr}`);
  return done.stdout;
}

/** Whoever owns the files. */
function git(...args) {
  return run('git', ['-c', 'safe.directory=*', ...args]);
}

/** The crates of others that are linked into the library, as `name vVERSION`. */
function linked(major) {
  const tree = run('cargo', ['tree', '--locked', '--package', 'supabase_pat', '--edges', 'normal,no-proc-macro', '--prefix', 'none',
    '--format', '{p}', '--no-default-features', '--features', `pg${major}`]);
  return new Set(lines(tree).filter((line) => !line.includes('(/')).map((line) => line.match(/^\S+ v\S+/)[0]));
}

function releases() {
  return readdirSync(path('sql/releases')).flatMap((file) => file.match(/^supabase_pat--(.+)\.sql$/)?.[1] ?? []).sort();
}

/** The scripts from one version to another, as pairs. */
function upgrades() {
  return readdirSync(path('sql')).flatMap((file) => {
    const [, from, to] = file.match(/^supabase_pat--(.+?)--(.+)\.sql$/) ?? [];
    return from ? [[from, to]] : [];
  });
}

/** What GitHub calls the headings of a page. */
function anchors(text) {
  const blanked = text.replace(/^ *```[^]*?^ *```$/gm, '');
  const found = new Set();
  for (const [, title] of blanked.matchAll(/^#+ (.*)$/gm)) {
    const plain = title.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').trim().toLowerCase().replace(/[^\w\- ]/g, '').replaceAll(' ', '-');
    let name = plain;
    for (let copy = 1; found.has(name); copy += 1) name = `${plain}-${copy}`;
    found.add(name);
  }
  return found;
}

/** A program of that version in target/tools, built from crates.io where it is missing. */
function registryTool(name, version) {
  const tools = path('target/tools');
  run('cargo', ['install', '--quiet', '--locked', '--version', version, '--root', tools, '--target-dir', join(tools, 'build'), name]);
  return join(tools, 'bin', name);
}

/** A program of the Go module in that folder of scripts, built where it is missing. Its go.sum has the hashes. */
function goTool(folder, which) {
  if (spawnSync('go', ['version']).error) fail('go is missing: install Go 1.25 or later (https://go.dev/dl)');
  const program = path('target/tools/bin', folder);
  run('go', ['build', '-mod=readonly', '-o', program, which], { cwd: path('scripts', folder) });
  return program;
}

/** A program of scripts/lint.txt, from an environment of Python's under target. */
function lintTool(name) {
  const environment = path('target/lint');
  const installed = join(environment, 'installed');
  if (!existsSync(installed) || readFileSync(installed, 'utf8') !== read('scripts/lint.txt')) {
    mkdirSync(path('target'), { recursive: true });
    run('python3', ['-m', 'venv', '--clear', environment]);
    run(join(environment, 'bin/pip'), ['install', '--quiet', '--disable-pip-version-check', '--timeout', '30', '--only-binary=:all:',
      '--require-hashes', '-r', path('scripts/lint.txt')]);
    run('cp', [path('scripts/lint.txt'), installed]);
  }
  return join(environment, 'bin', name);
}

/** The same of the console's package, which is made twice: the same sources give the same bytes. */
function consolePackage() {
  const [file, sum] = [0, 1].map(() => {
    const [made] = lines(run('make', ['--no-print-directory', 'pack-console'])).slice(-1);
    return [made, createHash('sha256').update(readFileSync(path(made))).digest('hex')];
  }).reduce(([first, hash], [, again]) => (hash === again ? [first, hash] : fail(`${first} has other bytes each time it is made`)));
  if (basename(file) !== `supabase-pat-console-${version}.tgz`) fail(`${file} is not of ${version}`);
  const listed = lines(run('tar', ['--list', '--file', path(file)])).map((name) => name.replace(/^package\//, '')).sort();
  const needed = ['package.json', 'README.md', 'LICENSE', 'src/index.js', 'types/index.d.ts', 'types/database.d.ts', 'dist/elements/pat-console.js',
    'dist/elements/THIRD-PARTY.txt'];
  const missing = needed.filter((one) => !listed.includes(one));
  if (missing.length > 0) fail(`${file} has no ${missing.join(', ')}`);
  const stray = listed.filter((one) => !needed.includes(one) && !/^src\/[\w/]+\.js$/.test(one));
  if (stray.length > 0) fail(`${file} has ${stray.join(', ')}, for which there is no place`);
  return `\n        ${sum}  ${basename(file)}\n          ${listed.length} files`;
}

/** The name, hash and content of the package for a major, each file on a line of its own. */
function packageOf(major) {
  const name = `postgresql-${major}-supabase-pat`;
  const files = readdirSync(path('target/deb')).filter((file) => file.startsWith(`${name}_`) && file.endsWith('.deb'));
  const file = files.find((one) => one.startsWith(`${name}_${version}-`)) ?? fail(`there is no ${name} of ${version}, but ${files.join(', ') || 'none'}`);
  const deb = path('target/deb', file);
  const field = (key) => run('dpkg-deb', ['--field', deb, key]).trim();
  if (field('Version') !== `${version}-1`) fail(`${file} says that it is ${field('Version')}`);
  if (!field('Depends').includes(`postgresql-${major},`)) fail(`${file} depends on ${field('Depends')}`);
  const listed = lines(run('dpkg-deb', ['--contents', deb])).filter((entry) => !entry.startsWith('d'))
    .map((entry) => entry.match(/ \.(\/.*)$/)[1]).sort();
  const extension = `/usr/share/postgresql/${major}/extension/supabase_pat`;
  const needed = [
    `/usr/lib/postgresql/${major}/lib/supabase_pat.so`, `${extension}.control`, `${extension}--${version}.sql`,
    ...upgrades().map(([from, to]) => `${extension}--${from}--${to}.sql`), `/usr/share/doc/${name}/copyright`,
  ];
  const missing = needed.filter((one) => !listed.includes(one));
  if (missing.length > 0) fail(`${file} has no ${missing.join(', ')}`);
  const stray = listed.filter((one) => !needed.includes(one) && !/^\/usr\/share\/(doc|lintian)\//.test(one));
  if (stray.length > 0) fail(`${file} has ${stray.join(', ')}, for which there is no place`);
  const sum = createHash('sha256').update(readFileSync(deb)).digest('hex');
  return [`${sum}  ${file}`, ...listed].map((line, place) => `\n        ${place === 0 ? '' : '  '}${line}`).join('');
}
