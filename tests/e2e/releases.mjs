// Which versions have been released, and their scripts.
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const read = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const scripts = (folder) => {
  let files;
  try {
    files = readdirSync(new URL(`../../${folder}`, import.meta.url));
  } catch (error) {
    // Before the first release.
    if (error.code === 'ENOENT') return {};
    throw error;
  }
  return Object.fromEntries(files.sort().flatMap((file) => {
    const [, versions] = file.match(/^supabase_pat--(.+)\.sql$/) ?? [];
    return versions ? [[versions, read(`${folder}/${file}`)]] : [];
  }));
};
const parts = (version) => version.split('.').map(Number);

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const changelog = read('CHANGELOG.md');
/** The version that the sources make. */
export const current = read('Cargo.toml').match(/^version = "(.+)"$/m)[1];
/** The install scripts of the versions that have been released, as they were. */
export const frozen = scripts('sql/releases');
/** The upgrade scripts, by `0.1.0--0.2.0`. */
export const upgrades = scripts('sql');
/** From the oldest to the newest. */
export const released = Object.keys(frozen).sort((one, other) => {
  const [a, b] = [parts(one), parts(other)];
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
});
