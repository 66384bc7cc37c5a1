// Fails on whatever pgspot or the licences of dependencies bring up that is not in audit.json with a reason, and on
// what is there but no longer comes up.
// Usage: node tests/audit.mjs INSTALL_SCRIPT…
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import parse from 'spdx-expression-parse';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const accepted = JSON.parse(readFileSync(join(root, 'tests', 'audit.json'), 'utf8'));
const CRATES_IO = 'registry+https://github.com/rust-lang/crates.io-index';
const problems = [];

process.argv.slice(2).forEach(pgspot);
crates();
npmPackages();
for (const problem of problems) console.error(problem);
process.exitCode = problems.length > 0 ? 1 : 0;

function run(command, ...args) {
  const done = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 1e8 });
  if (done.error) throw done.error;
  return done;
}

/** Its findings, without the line numbers, each as often as it is accepted. */
function pgspot(script) {
  const { stdout, stderr } = run('target/pgspot/bin/pgspot', script);
  // What it cannot parse, PL/pgSQL included, it names after its sums, and leaves out of them.
  const isWhole = /\n Errors: \d+ Warnings: \d+ Unknown: 0\s*$/.test(stdout);
  if (!isWhole) problems.push(`pgspot cannot read all of ${script}: ${stderr}${stdout.split('\n').slice(-3).join('')}`);
  const found = new Map();
  for (const [, finding] of stdout.matchAll(/^(PS\d+: (?:.|\n)*?) at line \d+$/gm)) {
    const text = finding.replaceAll(/\s+/g, ' ');
    found.set(text, (found.get(text) ?? 0) + 1);
  }
  const isUpgrade = /--[\d.]+--/.test(script);
  const known = new Map(accepted.pgspot.filter(({ in: where }) => where !== 'upgrades' || isUpgrade).flatMap(({ findings }) => Object.entries(findings)));
  for (const text of new Set([...found.keys(), ...known.keys()])) {
    const [is, was] = [found.get(text) ?? 0, known.get(text) ?? 0];
    if (is !== was) problems.push(`pgspot: ${is} times instead of ${was}: ${text}`);
  }
  console.log(`pgspot: ${[...found.values()].reduce((a, b) => a + b, 0)} findings in ${script}`);
}

/** The crates that are linked into the library, macros included, and with `kinds` those that run while it is built. */
function linked(wanted = [null]) {
  const { stdout, stderr, status } = run('cargo', 'metadata', '--format-version', '1', '--offline', '--locked', '--filter-platform', 'x86_64-unknown-linux-gnu');
  if (status !== 0) throw new Error(stderr);
  const { packages, resolve } = JSON.parse(stdout);
  const byId = new Map(packages.map((one) => [one.id, one]));
  const nodes = new Map(resolve.nodes.map((node) => [node.id, node]));
  const reached = new Set();
  const visit = (id) => {
    if (reached.has(id)) return;
    reached.add(id);
    for (const { pkg, dep_kinds: kinds } of nodes.get(id).deps) {
      if (kinds.some(({ kind }) => wanted.includes(kind))) visit(pkg);
    }
  };
  visit(packages.find(({ name, source }) => name === 'supabase_pat' && source === null).id);
  return [...reached].map((id) => byId.get(id)).filter(({ source }) => source !== null);
}

function crates() {
  const all = linked([null, 'build']);
  for (const { name, version, license, source } of all) {
    if (source !== CRATES_IO) problems.push(`${name} ${version} comes from ${source}`);
    checkLicence(`the crate ${name} ${version}`, license, accepted.licences);
  }
  const inIt = linked().map(({ name }) => name);
  const doubled = new Set(inIt.filter((name, at) => inIt.indexOf(name) !== at));
  const known = Object.keys(accepted.duplicates);
  for (const name of doubled) if (!known.includes(name)) problems.push(`${name} is there in more than one version`);
  for (const name of known) if (!doubled.has(name)) problems.push(`${name} is there in one version now, take it out of audit.json`);
  console.log(`crates: ${all.length}, all from crates.io`);
}

/** Those of the tests and those that build the console, which nobody distributes, and those that are built into it. */
function npmPackages() {
  for (const folder of ['tests', 'console']) {
    const { packages } = JSON.parse(readFileSync(join(root, folder, 'package-lock.json'), 'utf8'));
    const all = Object.entries(packages).filter(([path]) => path !== '');
    // supabase-js is in the page, though the package leaves it to whoever uses it.
    const isShipped = (path, { dev }) => folder === 'console' && (!dev || path.includes('@supabase/'));
    for (const [path, one] of all) {
      checkLicence(path, one.license, isShipped(path, one) ? accepted.licences : [...accepted.licences, ...accepted.licences_of_tests]);
    }
    console.log(`npm packages: ${all.length} in ${folder}`);
  }
}

function checkLicence(what, expression, allowed) {
  // Cargo once took a slash for OR.
  const isAllowed = (node) => {
    if (node.conjunction === 'and') return isAllowed(node.left) && isAllowed(node.right);
    if (node.conjunction === 'or') return isAllowed(node.left) || isAllowed(node.right);
    return allowed.includes(node.exception ? `${node.license} WITH ${node.exception}` : node.license);
  };
  try {
    if (isAllowed(parse(expression.replaceAll('/', ' OR ')))) return;
  } catch { /* it is no expression */ }
  problems.push(`the licence of ${what} is ${expression}`);
}
