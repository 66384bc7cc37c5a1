// Each link of each page leads somewhere, and each page is in the list of the site. It asks no server: addresses of the
// web are not looked at.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';
import { docs, linksOf, page, pages, sections } from './documentation.mjs';

/** The anchors of a page, as GitHub and mdBook make them: of two that are the same, the second one ends in -1. */
function anchorsOf(file) {
  const seen = new Map();
  return sections(file).map(({ title }) => {
    const anchor = title.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase().replace(/[^\w\- ]/g, '').replaceAll(' ', '-');
    const count = seen.get(anchor) ?? 0;
    seen.set(anchor, count + 1);
    return count === 0 ? anchor : `${anchor}-${count}`;
  });
}

test('links lead somewhere', () => {
  assert.ok(pages().length > 25, `${pages().length} pages`);
  const broken = [];
  for (const file of pages()) {
    for (const target of linksOf(file)) {
      const [path, fragment] = target.split('#');
      const found = path === '' ? file : join(dirname(file), path);
      if (!existsSync(join(docs, found))) broken.push(`${file}: ${target}`);
      else if (fragment && found.endsWith('.md') && !anchorsOf(found).includes(fragment)) broken.push(`${file}: ${target}`);
    }
  }
  assert.deepEqual(broken, []);
});

test('each page is in the list of the site, once', () => {
  const listed = linksOf('SUMMARY.md');
  assert.deepEqual(listed.sort(), pages().filter((file) => file !== 'SUMMARY.md' && !file.includes('.github')).sort());
});

test('from the README one comes to the tutorial and to each guide', () => {
  const reached = new Set(['../README.md']);
  for (const file of reached) {
    for (const target of linksOf(file)) {
      const to = relative(docs, join(docs, dirname(file), target.split('#')[0]));
      if (pages().includes(to)) reached.add(to);
    }
  }
  assert.deepEqual(pages().filter((file) => /^(guides\/|tutorial)/.test(file) && !reached.has(file)), []);
});
