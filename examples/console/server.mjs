// Serves the built console and the API under one address, as a gateway would: the page with a strict
// Content-Security-Policy, the REST server as `/rest/v1`, and what supabase-js asks Supabase Auth for by itself.
// The demo and the tests use it. It shows codes that were to be sent by e-mail to whoever asks: for a demo alone.
// Usage: node examples/console/server.mjs STATE, with the file that examples/demo.mjs keeps
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { createServer, request as httpRequest } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Cluster } from '../../tests/cluster/cluster.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const page = fileURLToPath(new URL('../../console/dist/page', import.meta.url));
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json', '.txt': 'text/plain' };
export const POLICY = [
  "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'", "form-action 'none'",
  "base-uri 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", 'trusted-types lit-html',
].join('; ');
const HEADERS = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
};
/** Mails that the mailbox keeps. */
const MOST_MAILS = 20;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { cluster, restPort, console: { port, anonKey } } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
  await serve({ cluster: Object.assign(new Cluster(), cluster), restPort, anonKey, port });
}

/**
 * Starts the server. `folders` are other places of files by the beginnings of their paths. Returns it with its `origin`,
 * and `mails`, which are claimed when somebody looks. `policy` is its Content-Security-Policy. `auth` answers what Supabase
 * Auth is asked for, if the functions are not to.
 */
export async function serve({ cluster, database = 'postgres', restPort, anonKey, port = 0, hasMailbox = true, folders = {}, policy = POLICY, auth }) {
  const config = JSON.stringify({ url: '/', anonKey, title: 'supabase_pat' });
  const mails = mailbox(cluster, database);
  const routes = [
    // As PostgREST answers: see rest.sql.
    [/^\/rest\/v1\/(\?|$)/, () => ['GET', '/api/rpc/root']],
    [/^\/rest\/v1\/rpc\/inspect_api_key$/, () => ['POST', '/api/rpc/inspect_api_key', { 'content-profile': 'public' }]],
    [/^\/rest\/v1(?=\/|$|\?)/, (from) => [from.method, from.url.replace(/^\/rest\/v1/, '/api')]],
    [/^\/auth\/v1\/user$/, () => ['GET', '/api/rpc/signed_in_user']],
    [/^\/auth\/v1\/token\?grant_type=refresh_token$/, () => ['POST', '/api/rpc/refresh_session']],
    [/^\/auth\/v1\/logout/, (from) => ['POST', '/api/rpc/sign_out', {}, JSON.stringify({ scope: new URL(from.url, 'http://x').searchParams.get('scope') ?? 'global' })]],
  ];
  const server = createServer((from, to) => {
    for (const [name, value] of Object.entries({ ...HEADERS, 'content-security-policy': policy })) to.setHeader(name, value);
    // A page of somebody else may give its own name the address of this machine.
    if (!/^(127\.0\.0\.1|localhost):\d+$/.test(from.headers.host)) return answer(to, 421, 'text/plain', 'not this server');
    if (auth && from.url.startsWith('/auth/v1/')) return auth(from, to);
    const [, target] = routes.find(([pattern]) => pattern.test(from.url)) ?? [];
    if (target) return forward(restPort, from, to, target(from));
    const path = pathOf(from.url);
    if (path === undefined) return answer(to, 400, 'text/plain', 'not a path');
    if (path.startsWith('/auth/')) return answer(to, 404, 'application/json', '{"code": 404, "message": "Supabase Auth is not here"}');
    if (path === '/config.json') return answer(to, 200, 'application/json', config);
    if (hasMailbox && path === '/demo/mails') {
      return mails.look().then(
        (all) => answer(to, 200, 'application/json', JSON.stringify(all)), (error) => answer(to, 500, 'text/plain', error.message),
      );
    }
    if (hasMailbox && path === '/demo/mailbox.js') return file(to, join(here, 'mailbox.js'));
    if (path === '/') {
      const html = readFileSync(join(page, 'index.html'), 'utf8');
      return answer(to, 200, 'text/html', hasMailbox ? html.replace('</head>', '<script type="module" src="demo/mailbox.js"></script></head>') : html);
    }
    const [start, folder] = Object.entries(folders).find(([start]) => path.startsWith(start)) ?? ['/', page];
    return file(to, join(folder, normalize(`/${path.slice(start.length)}`)));
  });
  await new Promise((resolve) => { server.listen(port, '127.0.0.1', resolve); });
  return Object.assign(server, { origin: `http://127.0.0.1:${server.address().port}`, mails });
}

/** Undefined for what is encoded wrongly. */
function pathOf(url) {
  try {
    return decodeURIComponent(new URL(url, 'http://x').pathname);
  } catch {
    return undefined;
  }
}

function answer(to, status, type, body) {
  to.writeHead(status, { 'content-type': `${type}; charset=utf-8`, 'cache-control': 'no-store' }).end(body);
}

function file(to, path) {
  if (!existsSync(path) || !statSync(path).isFile()) return answer(to, 404, 'text/plain', 'not found');
  to.writeHead(200, { 'content-type': `${TYPES[extname(path)] ?? 'application/octet-stream'}; charset=utf-8`, 'cache-control': 'no-cache' });
  return createReadStream(path).pipe(to);
}

/** Hands a request on, with the address that it came from. */
function forward(port, from, to, [method, path, others, body]) {
  const { 'content-length': length, ...headers } = from.headers;
  const forwarded = httpRequest({
    host: '127.0.0.1', port, method, path, headers: {
      ...headers,
      ...others,
      'x-forwarded-for': [headers['x-forwarded-for'], from.socket.remoteAddress.replace(/^::ffff:/, '')].filter(Boolean).join(', '),
      ...(body === undefined ? { ...(length && { 'content-length': length }) } : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
    },
  }, (reply) => {
    to.writeHead(reply.statusCode, reply.headers);
    reply.pipe(to);
  });
  forwarded.on('error', () => (to.headersSent ? to.destroy() : answer(to, 502, 'application/json', '{"message": "the REST server does not answer"}')));
  if (body === undefined) from.pipe(forwarded);
  else forwarded.end(body);
}

/** Takes mails out of the outbox as a mail worker does, and keeps them to be looked at instead of sending them. */
function mailbox(cluster, database) {
  const all = [];
  let client;
  let queue = Promise.resolve();
  const claim = async () => {
    if (client === undefined) {
      client = await cluster.connect(database);
      client.on('error', () => { client = undefined; });
      await client.query('set role service_role');
    }
    const { rows } = await client.query('select id, purpose, email, code, expires_at from pat.claim_messages(10)');
    for (const { id, ...mail } of rows) {
      all.unshift(mail);
      await client.query('select pat.message_sent($1)', [id]);
    }
    all.length = Math.min(all.length, MOST_MAILS);
    return all;
  };
  return {
    look() {
      queue = queue.then(claim, claim);
      return queue;
    },
    end: () => client?.end(),
  };
}
