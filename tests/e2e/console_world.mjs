// What the tests of the console start from: a server with the console on one origin, and a real Chromium.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { serve } from '../../examples/console/server.mjs';
import { sign, start } from './fixture.mjs';

export const CONSOLE = fileURLToPath(new URL('../../console', import.meta.url));
const read = (path) => readFileSync(new URL(path, import.meta.url), 'utf8');
const axe = read('../node_modules/axe-core/axe.min.js');

const SETTINGS = `
  select pat.define_setting('editor', '{"font": {"size": 12}, "wraps": true}', '{"type": "object", "title": "Editor", "properties": {
    "font": {"type": "object", "title": "Font", "properties": {"size": {"type": "integer", "title": "Size", "minimum": 6, "maximum": 72}}},
    "wraps": {"type": "boolean", "title": "Wrap long lines"}}}');
  select pat.define_setting('prompt', '"Be brief."', '{"type": "string", "title": "System prompt", "maxLength": 2000}');
  select pat.define_setting('tags', '[]', '{"type": "array", "title": "Tags", "items": {"enum": ["work", "home"]}}');
  select pat.define_setting('temperature', '0.7', '{"type": "number", "title": "Temperature", "description": "How much answers vary.",
    "minimum": 0, "maximum": 2}');
  select pat.define_setting('theme', '"system"', '{"enum": ["system", "light", "dark"], "title": "Theme"}');`;

/** `settings` are besides those of the console; `auth` answers what Supabase Auth is asked for. */
export async function startConsole({ folders = {}, policy, settings = {}, auth } = {}) {
  const world = await start({
    env: { PGRST_DB_SCHEMAS: 'public,pat' },
    settings: { 'supabase_pat.enable_sign_up': 'on', 'supabase_pat.enable_sign_in': 'on', 'supabase_pat.trusted_proxies': '1', 'supabase_pat.flush_interval': '1', ...settings },
    sql: `${read('../../examples/console/rest.sql')}
      create table invoices (id int primary key, total numeric);
      grant select on invoices to authenticated;
      create function add_todo(title text) returns int language sql as 'insert into todos (title) values (title) returning id';
      grant execute on function add_todo to authenticated;
      ${SETTINGS}`,
  });
  const anonKey = await sign({ role: 'anon', iss: 'supabase' });
  const server = await serve({
    cluster: world.cluster, restPort: world.rest.port, anonKey, policy, auth: auth?.(world),
    folders: { '/elements/': `${CONSOLE}/dist/elements`, '/test/': fileURLToPath(new URL('console', import.meta.url)),
      ...folders,
      '/supabase/': `${CONSOLE}/node_modules/@supabase/supabase-js/dist/umd`,
    },
  });
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // Chromium's sandbox does not work as root.
    args: process.getuid() === 0 ? ['--no-sandbox'] : [],
  });
  const users = new Map();
  return {
    ...world, anonKey, origin: server.origin, server, browser,
    async stop() {
      await browser.close();
      server.closeAllConnections();
      server.close();
      await server.mails.end();
      world.stop();
    },
    /** A page in a browser of its own, or another tab in the browser of a page. What it must not do is noted in `wrong`. */
    async visit(path = '/', { expects = [], beside, ...options } = {}) {
      const context = beside?.context() ?? await browser.newContext({ viewport: { width: 1000, height: 800 }, reducedMotion: 'reduce', locale: 'en-GB', timezoneId: 'UTC', ...options });
      const page = await context.newPage();
      page.setDefaultTimeout(8000);
      const wrong = [];
      page.on('pageerror', (error) => wrong.push(`error: ${error.message}`));
      page.on('console', (message) => {
        const isExpected = message.text().startsWith('Failed to load resource') || expects.some((text) => message.text().includes(text));
        if (!isExpected) wrong.push(`${message.type()}: ${message.text()}`);
      });
      page.on('request', (request) => {
        if (!request.url().startsWith(`${server.origin}/`)) wrong.push(`request: ${request.url()}`);
      });
      await page.goto(server.origin + path);
      return Object.assign(page, { wrong });
    },
    /** A user with a password, as signing up makes them. */
    async user(email) {
      if (users.has(email)) return users.get(email);
      const password = `the password of ${email}`;
      const call = async (name, args) => (await fetch(`${server.origin}/rest/v1/rpc/${name}`, {
        method: 'POST', headers: { 'content-type': 'application/json', authorization: `Bearer ${anonKey}` }, body: JSON.stringify(args),
      })).json();
      const { confirmation_token: token } = await call('sign_up', { email, password });
      const session = await call('confirm_sign_up', { token, code: await this.code(email) });
      users.set(email, { email, password, id: session.user.id, session });
      return users.get(email);
    },
    /** The code that was sent last to an address. */
    async code(email) {
      const mails = await server.mails.look();
      return mails.find((mail) => mail.email === email).code;
    },
    /** Signs in on a page. */
    async signIn(page, { email, password }) {
      await page.getByLabel('E-mail address').fill(email);
      await page.getByLabel('Password', { exact: true }).fill(password);
      await page.getByRole('button', { name: 'Sign in', exact: true }).click();
      await page.getByRole('heading', { name: 'Personal access tokens' }).waitFor();
    },
    async enterAsOperator(page) {
      await page.getByRole('link', { name: 'Operator', exact: true }).click();
      await page.getByLabel('Key of the service role').fill(await world.serviceKey());
      await page.getByRole('button', { name: 'Go on' }).click();
      await page.getByRole('heading', { name: 'Doctor' }).waitFor();
    },
    /** What axe-core finds on a page. It runs beside the page's policy, which would not let it in. */
    async violations(page, runOnly = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']) {
      if (!await page.evaluate(() => 'axe' in globalThis)) await page.evaluate(axe);
      const { violations } = await page.evaluate((tags) => globalThis.axe.run({ runOnly: tags }), runOnly);
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target, failureSummary }) => `${JSON.stringify(target)} ${failureSummary}`).join('; ')}`);
    },
    /** All that is in a page and could hold a text: the DOM with its shadow roots and values, attributes, the address, storage. */
    everywhere: (page) => page.evaluate(() => {
      const parts = [location.href, document.cookie, JSON.stringify({ ...localStorage }), JSON.stringify({ ...sessionStorage }), JSON.stringify(history.state)];
      const walk = (node) => {
        if (node.nodeType === Node.TEXT_NODE || node.nodeType === Node.COMMENT_NODE) parts.push(node.data);
        for (const { name, value } of node.attributes ?? []) parts.push(`${name}=${value}`);
        if ('value' in node) parts.push(String(node.value));
        if (node.shadowRoot) walk(node.shadowRoot);
        for (const child of node.childNodes) walk(child);
      };
      walk(document);
      return parts.join('\n');
    }),
  };
}
