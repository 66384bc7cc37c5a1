// Builds the site of the documentation with mdBook, in target/docs/site, and checks that each of its links leads somewhere.
// Usage: node scripts/docs.mjs (make docs)
// In the sources, pages link to each other and to files beside them by their paths from where they are, so that they can be
// read without a site. What they link to is copied by the same paths, and mdBook makes pages of what docs/SUMMARY.md lists.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const target = join(root, 'target', 'docs');
const site = join(target, 'site');
const LINK = /\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)/g;

const isFile = (path) => existsSync(path) && statSync(path).isFile();
const linksOf = (page) => [...readFileSync(join(root, page), 'utf8').matchAll(LINK)].map(([, path]) => normalize(join(dirname(page), path)));

/** Copies the pages that docs/SUMMARY.md lists, and the files to which they link. */
function collect() {
  rmSync(target, { recursive: true, force: true });
  const pages = linksOf('docs/SUMMARY.md');
  const files = new Set([...pages, ...pages.flatMap(linksOf)].filter((path) => isFile(join(root, path))));
  for (const file of files) {
    mkdirSync(join(target, 'src', dirname(file)), { recursive: true });
    copyFileSync(join(root, file), join(target, 'src', file));
  }
  // mdBook wants both where the site begins.
  const summary = readFileSync(join(root, 'docs', 'SUMMARY.md'), 'utf8');
  writeFileSync(join(target, 'src', 'SUMMARY.md'), summary.replace(LINK, (_, path) => `](${normalize(join('docs', path))})`));
  copyFileSync(join(root, 'docs', 'book.toml'), join(target, 'book.toml'));
}

/** The links of the site that lead nowhere. */
function broken() {
  const files = readdirSync(site, { recursive: true }).filter((file) => isFile(join(site, file)));
  const html = new Map(files.filter((file) => file.endsWith('.html')).map((file) => [file, readFileSync(join(site, file), 'utf8')]));
  const found = [];
  let count = 0;
  for (const [file, text] of html) {
    for (const [, link] of text.matchAll(/(?:href|src)="([^"]*)"/g)) {
      if (/^(https?:|mailto:|data:|javascript:)/.test(link)) continue;
      count += 1;
      const [path, fragment] = decodeURIComponent(link.replaceAll('&amp;', '&')).split('#');
      const to = path === '' ? file : relative(site, join(site, dirname(file), path));
      if (!files.includes(to)) found.push(`${file}: ${link}`);
      else if (fragment && html.has(to) && !html.get(to).includes(`id="${fragment}"`)) found.push(`${file}: ${link}`);
    }
  }
  if (count < 1000) found.push(`only ${count} links were looked at`);
  return found;
}

collect();
const { status, error } = spawnSync(join(root, 'target', 'mdbook', 'bin', 'mdbook'), ['build', target], { stdio: 'inherit' });
if (status !== 0) throw error ?? new Error('mdBook failed');
const found = broken();
for (const link of found) console.error(`leads nowhere: ${link}`);
if (found.length > 0) process.exit(1);
console.log(`the site is in ${relative(process.cwd(), site) || '.'}: open index.html in a browser`);
