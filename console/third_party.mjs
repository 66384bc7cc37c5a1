// The licences of the packages that a build contains, as a file beside it. They ask to be passed on with their code.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { thirdParty } from '../scripts/licence_texts.mjs';

export const FILE = 'THIRD-PARTY.txt';
/** A package that has no licence file, and another one of the same authors and sources that has. */
const TEXTS = { '@lit-labs/ssr-dom-shim': 'node_modules/@lit/reactive-element' };
const here = dirname(fileURLToPath(import.meta.url));
const read = (...parts) => JSON.parse(readFileSync(join(here, ...parts), 'utf8'));

/** The packages that those named `roots` depend on, themselves included, by their paths in the lock file. */
export function needed(roots) {
  const { packages } = read('package-lock.json');
  const paths = new Set();
  const visit = (name, from) => {
    // As Node looks for them: from the folder of whoever asks upwards.
    for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('node_modules/') - 1))) {
      const path = join(folder, 'node_modules', name);
      if (path in packages) {
        if (paths.has(path)) return;
        paths.add(path);
        for (const dependency of Object.keys(packages[path].dependencies ?? {})) visit(dependency, path);
        return;
      }
      if (folder === '') throw new Error(`package-lock.json has no ${name}, which ${from || 'the console'} needs`);
    }
  };
  for (const name of roots) visit(name, '');
  return paths;
}

/** For vite: writes the file into the build. `also` names packages that a build has besides the console's dependencies. */
export function licences(also = []) {
  return {
    name: 'licences',
    apply: 'build',
    generateBundle(_, bundle) {
      const paths = needed([...Object.keys(read('package.json').dependencies), ...also]);
      const modules = Object.values(bundle).flatMap(({ moduleIds = [] }) => moduleIds);
      const folders = modules.flatMap((id) => id.match(/node_modules\/(?:.*\/node_modules\/)?(?:@[^/]+\/)?[^/]+(?=\/)/)?.[0] ?? []);
      const missing = new Set(folders.filter((folder) => !paths.has(folder)));
      if (missing.size > 0) throw new Error(`${FILE} would lack ${[...missing].join(', ')}`);
      const packages = [...paths].filter((path) => existsSync(join(here, path))).map((path) => {
        const { name, version, license, author } = read(path, 'package.json');
        return { name, version, license, authors: author ? [author.name ?? author] : [], folder: join(here, TEXTS[name] ?? path) };
      });
      const heading = ['These files hold code of packages among the following, under these licences.'];
      this.emitFile({ type: 'asset', fileName: FILE, source: thirdParty(heading, packages) });
    },
  };
}
