// A middleware for Express that takes personal access tokens and logins alike: it asks the database what a token is
// worth.
// Usage: copy this file, set REST_URL (https://example.supabase.co/rest/v1, say) and SERVICE_KEY, and
//   import { requireToken } from './express.mjs';
//   app.post('/reports', requireToken('reports:create'), ({ who }, response) => response.json({ user: who.sub }));

/** What a token is worth: see the page "What a token is worth" of supabase_pat's reference. */
async function introspect(token, scope) {
  const { REST_URL, SERVICE_KEY } = process.env;
  const answer = await fetch(`${REST_URL}/rpc/introspect_token`, {
    method: 'POST',
    headers: { apikey: SERVICE_KEY, authorization: `Bearer ${SERVICE_KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ token, scope }),
    signal: AbortSignal.timeout(5000),
  });
  if (!answer.ok) throw new Error(`introspection: HTTP ${answer.status}`);
  return answer.json();
}

/** Goes on, with `request.who`, if somebody's token comes with the request that has the scope. */
export function requireToken(scope) {
  return async (request, response, next) => {
    const refuse = (status, error) =>
      response.status(status).set('WWW-Authenticate', `Bearer error="${error}"`).json({ error });
    const bearer = request.get('authorization')?.match(/^Bearer +(\S+)$/i)?.[1];
    const token = request.get('x-api-key') ?? bearer;
    if (!token) return refuse(401, 'missing_token');
    try {
      request.who = await introspect(token, scope);
      // An API key is nobody's. Everybody has the one of the anonymous role.
      if (!request.who.sub) {
        const { sub } = await introspect(token);
        return sub ? refuse(403, 'insufficient_scope') : refuse(401, 'invalid_token');
      }
    } catch (error) {
      console.error(error.message);
      return refuse(503, 'temporarily_unavailable');
    }
    return next();
  };
}
