// An Edge Function that takes personal access tokens and logins alike: it asks the database what a token is worth.
// Usage: copy this file to supabase/functions/reports/index.ts, put your own handler at its end, and write
//   [functions.reports]
//   verify_jwt = false
// into supabase/config.toml, since an opaque token is no JWT. SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY are there.
// A handler of this kind, which takes a Request and returns a Response, runs in Node, Bun and Cloudflare's workers too.
const env = (name) => globalThis.Deno?.env.get(name) ?? globalThis.process?.env[name];

/** What a token is worth: see the page "What a token is worth" of supabase_pat's reference. */
async function introspect(token, scope) {
  const key = env('SUPABASE_SERVICE_ROLE_KEY');
  const answer = await fetch(`${env('SUPABASE_URL')}/rest/v1/rpc/introspect_token`, {
    method: 'POST',
    headers: { apikey: key, authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ token, scope }),
    signal: AbortSignal.timeout(5000),
  });
  if (!answer.ok) throw new Error(`introspection: HTTP ${answer.status}`);
  return answer.json();
}

const refuse = (status, error) =>
  Response.json({ error }, { status, headers: { 'www-authenticate': `Bearer error="${error}"` } });

/** Lets a request through to `handler(request, who)` if somebody's token comes with it that has the scope. */
export function guarded(scope, handler) {
  return async (request) => {
    const bearer = request.headers.get('authorization')?.match(/^Bearer +(\S+)$/i)?.[1];
    const token = request.headers.get('x-api-key') ?? bearer;
    if (!token) return refuse(401, 'missing_token');
    let who;
    try {
      who = await introspect(token, scope);
      // An API key is nobody's. Everybody has the one of the anonymous role.
      if (!who.sub) {
        const { sub } = await introspect(token);
        return sub ? refuse(403, 'insufficient_scope') : refuse(401, 'invalid_token');
      }
    } catch (error) {
      console.error(error.message);
      return refuse(503, 'temporarily_unavailable');
    }
    return handler(request, who);
  };
}

const handler = guarded('reports:create', (request, { sub, name = null, kind }) =>
  Response.json({ user: sub, token: name, kind }));
globalThis.Deno?.serve(handler);
export default handler;
