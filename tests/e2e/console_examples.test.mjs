// The examples of the console's elements, in a plain page, React, Vue and Nuxt, as their users would build them.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { POLICY } from '../../examples/console/server.mjs';
import { CONSOLE, startConsole } from './console_world.mjs';

const EXAMPLES = fileURLToPath(new URL('../../examples/console', import.meta.url));
const require = createRequire(join(CONSOLE, 'package.json'));
const built = mkdtempSync(join(tmpdir(), 'supabase_pat-examples-'));
let world;
before(async () => {
  // Vue, too, has a policy of its own for what it writes into the page.
  world = await startConsole({ folders: { '/examples/': built }, policy: `${POLICY} vue` });
});
after(async () => {
  await world?.stop();
  rmSync(built, { recursive: true });
});

/** Builds an example. The packages that it names are those of the console, which lies beside it here. */
async function build(name) {
  const { build: run } = await import(pathToFileURL(join(CONSOLE, 'node_modules/vite/dist/node/index.js')));
  const { default: vue } = await import(pathToFileURL(require.resolve('@vitejs/plugin-vue')));
  await run({
    root: join(EXAMPLES, name),
    base: './',
    configFile: false,
    logLevel: 'error',
    esbuild: { jsx: 'automatic' },
    // The plugin would look for it beside the example.
    resolve: { alias: { vue: join(CONSOLE, 'node_modules/vue/dist/vue.runtime.esm-bundler.js') } },
    define: { 'process.env.NODE_ENV': '"production"' },
    plugins: [
      vue({ template: { compilerOptions: { isCustomElement: (tag) => tag.startsWith('pat-') } } }),
      {
        name: 'packages-of-the-console',
        enforce: 'pre',
        resolveId(id, importer) {
          if (id === '@supabase-pat/console') return join(CONSOLE, 'src/index.js');
          if (/^[@a-z]/.test(id) && importer?.startsWith(EXAMPLES)) return this.resolve(id, join(CONSOLE, 'src/index.js'), { skipSelf: true });
          return undefined;
        },
      },
    ],
    build: { target: 'es2022', outDir: join(built, name), emptyOutDir: true, modulePreload: { polyfill: false } },
  });
}

const NUXT = join(EXAMPLES, 'nuxt');
const KEPT = fileURLToPath(new URL('../../target/nuxt', import.meta.url));

/** Builds that of Nuxt, which takes half a minute. What was built is kept as long as nothing that it is made of changes. */
async function buildNuxt() {
  const own = ['package-lock.json', 'nuxt.config.js', 'app/app.vue'].map((file) => join(NUXT, file));
  const elements = readdirSync(join(CONSOLE, 'src'), { recursive: true }).filter((file) => file.endsWith('.js')).sort().map((file) => join(CONSOLE, 'src', file));
  const hash = createHash('sha256');
  for (const file of [...own, ...elements, join(CONSOLE, 'package-lock.json')]) hash.update(readFileSync(file));
  const kept = join(KEPT, hash.digest('hex').slice(0, 16));
  if (!existsSync(kept)) {
    const nuxt = join(NUXT, 'node_modules/nuxt/bin/nuxt.mjs');
    assert.ok(existsSync(nuxt), 'the packages of the example are missing: make setup');
    const env = { ...process.env, NUXT_APP_BASE_URL: '/examples/nuxt/', NUXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production' };
    await promisify(execFile)(process.execPath, [nuxt, 'generate'], { cwd: NUXT, env, timeout: 300_000 });
    rmSync(KEPT, { recursive: true, force: true });
    cpSync(join(NUXT, '.output/public'), kept, { recursive: true });
  }
  cpSync(kept, join(built, 'nuxt'), { recursive: true });
}

const [major, minor] = process.versions.node.split('.').map(Number);
const skip = major < 20 || major === 20 && minor < 19 ? 'Nuxt 4 needs Node 20.19' : false;
for (const name of ['plain', 'react', 'vue', 'nuxt']) {
  test(`somebody makes a token on the example ${name}`, { skip: name === 'nuxt' && skip }, async () => {
    await (name === 'nuxt' ? buildNuxt() : build(name));
    const user = await world.user(`${name}@example.com`);
    const page = await world.visit(`/examples/${name}/index.html`);
    await world.signIn(page, user);
    await page.getByRole('button', { name: 'New token' }).click();
    await page.getByLabel('Name').fill('from the example');
    await page.getByRole('button', { name: 'Make the token' }).click();
    await page.getByRole('button', { name: 'I have copied it' }).click();
    await page.getByText('from the example was made').waitFor();
    await page.getByRole('heading', { name: 'from the example' }).waitFor();
    assert.deepEqual(page.wrong, []);
  });
}
