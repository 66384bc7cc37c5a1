// The Debian package in a clean Debian system. Each command there has namespaces of its own, so that all
// mounts and processes end with it, also if this test is killed; and no network.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const top = fileURLToPath(new URL('../..', import.meta.url));
const major = process.env.PG ?? '15';
const version = readFileSync(join(top, 'Cargo.toml'), 'utf8').match(/^version = "(.*)"$/m)[1];
const name = `postgresql-${major}-supabase-pat`;
/** From which versions to which, as `0.1.0--0.2.0`. */
const upgrades = readdirSync(join(top, 'sql')).flatMap((entry) => entry.match(/^supabase_pat--(.+)\.sql$/)?.[1] ?? []);
// Which Debian has this Postgres.
const suite = { 15: 'bookworm', 17: 'trixie', 18: 'sid' }[major];
const packages = join(top, 'target/deb');
const system = join(top, `target/deb/system-${major}`);
const lines = (text) => text.split('\n').filter(Boolean);
let file;
let clean;

before(() => {
  file = readdirSync(packages).find((entry) => entry.startsWith(`${name}_${version}-`) && entry.endsWith('.deb'));
  assert.ok(file, `target/deb has no ${name}: make deb`);
  assert.ok(suite, `no Debian has Postgres ${major}`);
  // Kept from one run to the next: fetching and unpacking it takes one to three minutes.
  const base = join(top, `target/deb-base/postgresql-${major}-${suite}.tar`);
  if (!existsSync(base)) {
    mkdirSync(join(top, 'target/deb-base'), { recursive: true });
    asRoot('mmdebstrap', '--mode=root', '--variant=minbase', `--include=postgresql-${major}`, suite, `${base}.part.tar`, `deb ${mirror()} ${suite} main`);
    renameSync(`${base}.part.tar`, base);
  }
  asRoot('rm', '-rf', system);
  asRoot('mkdir', '-p', system);
  asRoot('tar', '--numeric-owner', '-xf', base, '-C', system);
  asRoot('cp', join(packages, file), join(system, 'srv'));
  inside('printf "#!/bin/sh\\nexit 101\\n" > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d');
  clean = everyFile();
});

after(() => asRoot('rm', '-rf', system));

test('the package is the same to the byte when it is made again', () => {
  const sum = () => createHash('sha256').update(readFileSync(join(packages, file))).digest('hex');
  const first = sum();
  run('sh', ['-c', `umask 077; TZ=Asia/Tokyo scripts/deb ${major}`]);
  assert.equal(sum(), first, 'if it is of another commit: make deb');
});

test('lintian finds nothing to complain of', () => {
  assert.equal(run('lintian', ['--fail-on', 'error,warning', '--allow-root', join(packages, file)]), '');
});

test('the library is stripped, names no folder of this machine, and needs the C library and libgcc alone', () => {
  const library = join(packages, name, `root/usr/lib/postgresql/${major}/lib/supabase_pat.so`);
  assert.doesNotMatch(run('readelf', ['-SW', library]), /\.symtab|\.debug/);
  const home = process.env.CARGO_HOME ?? join(process.env.HOME, '.cargo');
  const folders = lines(run('strings', [library])).filter((text) => text.includes(`${home}/`) || text.includes(top));
  assert.deepEqual(folders, []);
  const needed = [...run('readelf', ['-dW', library]).matchAll(/NEEDED.*\[(.*)\]/g)].map(([, soname]) => soname.replace(/^ld-linux.*/, 'ld-linux'));
  assert.deepEqual(needed.sort(), ['ld-linux', 'libc.so.6', 'libgcc_s.so.1', 'libm.so.6']);
});

test('the licence of every crate that is linked in comes along', () => {
  const copyright = readFileSync(join(packages, name, `root/usr/share/doc/${name}/copyright`), 'utf8');
  assert.ok(copyright.includes(readFileSync(join(top, 'LICENSE'), 'utf8')), 'our own licence');
  const [list, ...texts] = copyright.split(/\n-{78}\n/);
  const crates = [...list.matchAll(/^([\w-]+ \d[^ :]*): /gm)].map(([, crate]) => crate);
  assert.ok(crates.some((crate) => crate.startsWith('aws-lc-sys ')) && crates.some((crate) => crate.startsWith('pgrx ')), list);
  assert.deepEqual(crates.filter((crate) => !texts.some((text) => text.split(', ').includes(crate))), []);
  assert.ok(copyright.includes('The OpenSSL Project. All rights reserved.'), 'what AWS-LC is made from');
});

test('it installs beside Debian\'s own Postgres, where that looks for extensions', () => {
  inside(`apt-get install -y /srv/${file}`);
  assert.deepEqual(lines(inside(`dpkg -L ${name}`)).filter((path) => /\.(so|control|sql)$/.test(path)).sort(), [
    `/usr/lib/postgresql/${major}/lib/supabase_pat.so`,
    ...[...upgrades, version].map((versions) => `/usr/share/postgresql/${major}/extension/supabase_pat--${versions}.sql`),
    `/usr/share/postgresql/${major}/extension/supabase_pat.control`,
  ].sort());
  assert.equal(inside(`dpkg --verify ${name}`), '', 'files that differ from the package');
  const loose = `find $(dpkg -L ${name} | grep supabase) '(' ! -user root -o ! -group root -o -perm /022 -o -type f -perm /111 ')'`;
  assert.equal(inside(loose), '', 'files that others may write, or that are executable');
});

for (const preload of ['', 'supabase_pat']) {
  test(`a token is minted, checked and revoked there, ${preload ? 'with' : 'without'} preloading`, () => {
    const [subject, valid, afterRevoking, status] = lines(inside(`
      pg_conftool ${major} main set listen_addresses ''
      pg_conftool ${major} main set shared_preload_libraries '${preload}'
      pg_ctlcluster ${major} main start
      trap 'pg_ctlcluster ${major} main stop' EXIT
      runuser -u postgres -- psql -X -q -v ON_ERROR_STOP=1 -At <<'SQL'
        drop database if exists app;
        create database app;
        \\c app
        create extension supabase_pat;
        select pat.install_auth_schema() \\g /dev/null
        insert into auth.users (id, email) values ('11111111-1111-1111-1111-111111111111', 'alice@example.com');
        select pat.add_signing_key() as kid \\gset
        select pat.rotate_signing_key(:'kid') \\g /dev/null
        select token, id from mint_pat('11111111-1111-1111-1111-111111111111', 'zapier') \\gset
        select pat.verify_jwt(:'token') as claims \\gset
        select :'claims'::jsonb ->> 'sub';
        select set_config('request.jwt.claims', :'claims', false) \\g /dev/null
        set role authenticated;
        select is_valid_api_token();
        select revoke_pat(:'id') \\g /dev/null
        select is_valid_api_token();
        reset role;
        select pat.jwt_status(:'token');
SQL
    `));
    assert.deepEqual([subject, valid, afterRevoking, status], ['11111111-1111-1111-1111-111111111111', 't', 'f', 'revoked']);
  });
}

test('removing and purging it leaves nothing behind', () => {
  inside(`apt-get remove -y ${name}`);
  assert.equal(inside(`dpkg-query -W -f '\${db:Status-Status}' ${name} 2>/dev/null || true`), '', 'there is nothing to configure, so nothing to keep');
  inside(`dpkg --purge ${name}`);
  assert.deepEqual(everyFile(), clean);
});

function run(command, args, options) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { cwd: top, encoding: 'utf8', maxBuffer: 1 << 26, ...options });
  if (error) throw new Error(`${command}: ${error.code === 'ENOENT' ? 'not installed' : error.message}`);
  assert.equal(status, 0, `${command} ${args.join(' ')}\n${stdout}${stderr}`);
  return stdout;
}

function asRoot(command, ...args) {
  return process.getuid() === 0 ? run(command, args) : run('sudo', [command, ...args]);
}

function inside(script) {
  return asRoot(
    'unshare', '--mount', '--pid', '--net', '--fork', '--kill-child', `--mount-proc=${system}/proc`,
    'sh', '-euc', 'mount -t tmpfs -o mode=1777 tmpfs "$0/dev/shm"; exec env -i "$@"', system,
    'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C.UTF-8', 'DEBIAN_FRONTEND=noninteractive', 'chroot', system, 'sh', '-euc', script,
  );
}

/** What is in the system, but for what the server and the package manager keep of their own work. */
function everyFile() {
  return lines(inside('find / -xdev -path /var/lib/postgresql -prune -o -path /var/log -prune -o -path /var/cache -prune -o -path /var/lib/dpkg -prune -o -path /run -prune -o -print'))
    .filter((path) => !path.startsWith('/var/lib/apt/'))
    .sort();
}

/** Where this machine's own Debian comes from. */
function mirror() {
  const targets = lines(run('apt-get', ['indextargets', '--format', '$(ORIGIN) $(SUITE) $(REPO_URI)', 'Created-By: Packages']));
  const found = targets.map((target) => target.match(/^Debian (?!.*-(?:updates|security|backports))\S+ (.*)$/)?.[1]).find(Boolean);
  assert.ok(found, 'apt has no Debian among its sources: apt-get update');
  return found;
}
