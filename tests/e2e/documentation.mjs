// Reads the pages under docs/, and runs their SQL as it stands there.
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Cluster } from '../cluster/cluster.mjs';

export const docs = fileURLToPath(new URL('../../docs/', import.meta.url));
const FENCE = /^ *```(\w*)\n([^]*?)^ *```$/gm;
const DATABASE = 'documentation';

export const page = (name) => readFileSync(join(docs, name), 'utf8');

/** All pages of the sources, by their paths from docs/. */
export const pages = () => pagesIn(join(docs, '..')).map((path) => relative(docs, path)).sort();

const pagesIn = (folder) => readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
  const path = join(folder, entry.name);
  if (entry.isDirectory()) return ['node_modules', 'target', '.git'].includes(entry.name) ? [] : pagesIn(path);
  return entry.name.endsWith('.md') ? [path] : [];
});

/** Where a page links to, but for addresses of the web. What stands in code or a comment is none. */
export const linksOf = (name) => [...page(name).replace(/^ *```[^]*?^ *```$|<!--[^]*?-->|`[^`\n]*`/gm, '')
  .matchAll(/\[[^\]]*\]\((?!https?:|mailto:)([^)\s]*)[^)]*\)/g)].map(([, target]) => target);

/** All pages of the reference. */
export const referencePages = () => ['reference.md', ...readdirSync(join(docs, 'reference')).sort().map((file) => `reference/${file}`)];

/** The sections of a page: what stands under each heading, up to the next one of any level. */
export function sections(name) {
  const text = page(name);
  // A line of SQL or of a shell that begins with a # is no heading.
  const blanked = text.replace(FENCE, (fence) => fence.replace(/[^\n]/g, ' '));
  const starts = [...blanked.matchAll(/^(#+) (.*)$/gm)];
  return starts.map(({ 1: marks, 2: title, index }, place) => {
    const body = text.slice(index, starts[place + 1]?.index ?? text.length);
    return { page: name, level: marks.length, title: title.replaceAll('`', '').trim(), body, blocks: blocksOf(body) };
  });
}

/** Its code blocks: a declaration has no language; an example is SQL or for a shell, with what it prints after it. */
function blocksOf(body) {
  const fences = [...body.matchAll(FENCE)].map(([, language, code]) => ({ language, code }));
  return fences.flatMap(({ language, code }, place) => {
    if (language === 'text') return [];
    const next = fences[place + 1];
    return [{ language, code, output: ['sql', 'sh'].includes(language) && next?.language === 'text' ? next.code.trimEnd() : '' }];
  });
}

export const examplesOf = (section) => section.blocks.filter(({ language }) => language === 'sql');

/** A cluster with a template of the database that the examples start from. */
export async function startCluster({ settings = {} } = {}) {
  const cluster = await Cluster.start({
    settings: {
      shared_preload_libraries: 'supabase_pat',
      'supabase_pat.jwt_secret': 'the-secret-of-the-documentation-is-long-enough',
      ...settings,
    },
  });
  const [fixture] = examplesOf(sections('reference.md').find(({ title }) => title === 'What the examples start from'));
  cluster.psql('postgres', `create database ${DATABASE}_template`);
  cluster.psql(`${DATABASE}_template`, fixture.code);
  return cluster;
}

/** Runs pieces of SQL one after the other in one session of a new database, and returns what psql prints for each.
 * Copying files makes the database in half the time. */
export function runInOneSession(cluster, pieces) {
  cluster.psql('postgres', `drop database if exists ${DATABASE} with (force);
    create database ${DATABASE} template ${DATABASE}_template strategy file_copy;`);
  const end = '--- the end of an example ---';
  const input = pieces.map((sql) => `${sql}\n\\echo '${end}'\n`).join('');
  // As pg_regress does it: errors come out between the results.
  const done = spawnSync('sh', ['-c', `'${cluster.bin}/psql' -Xq -P footer=off -P null=null -v SHOW_CONTEXT=never 2>&1`], {
    input, encoding: 'utf8', env: { ...cluster.env(DATABASE), PGTZ: 'UTC', PGOPTIONS: '', LANG: 'C.UTF-8' },
  });
  return done.stdout.split(`${end}\n`).slice(0, pieces.length).map((printed) => printed.replace(/[ \t]+$/gm, '').trimEnd());
}
