// What the tests through the REST server start from: two users, a table with policies, a server.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { SignJWT } from 'jose';
import { Cluster, RestServer } from '../cluster/cluster.mjs';
import { Pooler, REST_SETTINGS } from '../cluster/pooler.mjs';
import { Proxy } from '../cluster/proxy.mjs';

export const SECRET = 'the-jwt-secret-of-the-rest-tests-32-bytes-and-more';
export const ALICE = '11111111-1111-1111-1111-111111111111';
export const BOB = '22222222-2222-2222-2222-222222222222';
export const ROLES = { anon: 'anon', authenticated: 'authenticated', service: 'service_role' };
export const OTHER_ROLES = { anon: 'web_anon', authenticated: 'web_user', service: 'admin' };

const TODOS = readFileSync(new URL('../todos.sql', import.meta.url), 'utf8');

/** With POOLER=1 every REST server of the tests reaches Postgres through a pooler of transactions. */
const IS_POOLED = process.env.POOLER === '1';

/** Starts a cluster with the extension preloaded, and runs `sql` in it. */
export async function startCluster({ roles = ROLES, settings = {}, sql = '', environment } = {}) {
  const cluster = await Cluster.start({
    environment,
    settings: {
      shared_preload_libraries: 'supabase_pat',
      'supabase_pat.jwt_secret': SECRET,
      'supabase_pat.anon_role': roles.anon,
      'supabase_pat.authenticated_role': roles.authenticated,
      'supabase_pat.service_role': roles.service,
      ...settings,
    },
  });
  cluster.psql('postgres', `
    create extension supabase_pat;
    select pat.install_auth_schema();
    alter role authenticator password '${cluster.password}';
    ${TODOS}
    grant select, insert, update, delete on todos to ${roles.authenticated};
    grant select on todos to ${roles.anon};
    ${sql}
  `);
  return cluster;
}

/** Starts a cluster, and a REST server in front of it. The server has so many `connections` to Postgres; or, if it
 * `isPooled`, ten more to a pooler that has so many, with `pooling` in its configuration. */
export async function start({
  roles = ROLES, settings, env = {}, sql, connections, isPooled = IS_POOLED, pooling, environment,
} = {}) {
  const cluster = await startCluster({ roles, settings, sql, environment });
  const pooler = isPooled ? await Pooler.start(cluster, { size: connections, settings: pooling }) : undefined;
  const url = (pooler ?? cluster).url('postgres', 'authenticator', cluster.password);
  const restServers = [];
  /** A REST server that verifies by `secret`. */
  const serve = async (secret) => {
    const pool = connections && { PGRST_DB_POOL: String(connections + (pooler ? 10 : 0)) };
    const server = await RestServer.start(url, secret, {
      anonRole: roles.anon, env: { ...pool, ...(pooler && REST_SETTINGS), ...env },
    });
    restServers.push(server);
    return server;
  };
  const rest = await serve(SECRET);
  let gateway;
  return {
    cluster,
    pooler,
    rest,
    serve,
    /** The address of what supabase-js takes for a Supabase project. */
    async gateway() {
      gateway ??= await Proxy.start(rest);
      return gateway.url;
    },
    stop() {
      gateway?.stop();
      for (const server of restServers) server.stop();
      pooler?.stop();
      cluster.stop();
    },
    /** What Supabase Auth gives a user who logs in. */
    login: (user, claims = {}) => {
      const session = randomUUID();
      cluster.psql('postgres', `insert into auth.sessions (id, user_id) select '${session}', id from auth.users where id = '${user}'`);
      return sign({
        aud: 'authenticated', role: roles.authenticated, sub: user, session_id: session, aal: 'aal1', ...claims,
      });
    },
    serviceKey: () => sign({ role: roles.service, iss: 'supabase' }),
    request: (method, path, options) => request(rest.url, method, path, options),
  };
}

/** Signs claims as another implementation does. */
export function sign(claims, { secret = SECRET, expiresIn = '1h' } = {}) {
  return new SignJWT(claims).setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuedAt().setExpirationTime(expiresIn).sign(new TextEncoder().encode(secret));
}

/** One request; the answer's body is parsed if it is JSON. */
export async function request(url, method, path, { token, body, headers = {} } = {}) {
  const answer = await fetch(url + path, {
    method,
    headers: {
      ...(token ? { authorization: `Bearer ${token}` } : {}),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  let data = text;
  try { data = JSON.parse(text); } catch { /* an empty body, say */ }
  return { status: answer.status, data };
}
