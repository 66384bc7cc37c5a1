// A line for a terminal that uses a token, in which no name is more than text.

/**
 * The line, or undefined if the address of the REST server is not known. `table` is what it reads; without one it asks
 * what the token is.
 */
export function curl(client, token, { kind, table, restUrl = client?.rest?.url }) {
  if (!restUrl || !token) return undefined;
  const path = table ? `${encodeURIComponent(table)}?limit=5` : 'rpc/current_api_key';
  const headers = [kind === 'opaque' ? `x-api-key: ${token}` : `Authorization: Bearer ${token}`];
  const key = publicKey(client);
  if (key) headers.unshift(`apikey: ${key}`);
  return ['curl', quote(`${String(restUrl).replace(/\/$/, '')}/${path}`), ...headers.flatMap((header) => ['-H', quote(header)])].join(' ');
}

/** The key of the client, if it is one that anybody may see. */
function publicKey({ supabaseKey: key = '' }) {
  if (key.startsWith('sb_publishable_')) return key;
  try {
    const claims = JSON.parse(atob(key.split('.')[1].replaceAll('-', '+').replaceAll('_', '/')));
    return claims.role === 'anon' ? key : undefined;
  } catch {
    return undefined;
  }
}

function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
