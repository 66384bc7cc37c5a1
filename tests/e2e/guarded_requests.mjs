// Whole requests, as a REST server sends them on a connection of a guarded login, for what must hold of all of them: that
// neither the guard's judgement, nor the counting of limits, nor what is put into plans keeps memory.
import { ALICE, BOB } from './fixture.mjs';

export const GUARD_SETTINGS = { 'supabase_pat.trusted_proxies': '1', 'supabase_pat.fast_auth_functions': 'on' };
export const LOGIN = 'authenticator';
/** So many allowances that no run uses them up. */
const PLENTY = 2_000_000_000;

/** Makes the table that requests ask for, and the tokens they come with. Returns the requests:
 * - `statements`: those of the request with the number `i`, between BEGIN and COMMIT
 * - `answer`: what the last of them shows in its one row, in words
 * - `raises`: the SQLSTATE with which it is refused, if it is; `once`: the first one of each token is let through
 * - `takes`: about how many microseconds */
export function guardedRequests(cluster, tokens) {
  const value = (sql) => cluster.psql('postgres', sql);
  // The policy is the one that a project of Supabase's has, with all else that a policy may ask.
  value(`
    create table notes (user_id uuid, project text, title text);
    insert into notes select user_id, 'p1', 'title' from unnest('{${ALICE},${BOB}}'::uuid[]) as user_id;
    alter table notes enable row level security;
    create policy owners on notes using (auth.uid() = user_id and auth.role() <> 'anon' and auth.jwt() is not null
      and is_valid_api_token() and has_scope('notes:read') and is_active_session() and api_key_allows('project', project));
    grant select on notes to anon, authenticated, service_role;`);
  const mint = (user, rest = '') => value(`select token from mint_pat('${user}', 'guarded'${rest})`);
  const claims = (token) => value(`select (pat.decode_jwt('${token}')).payload`);
  const both = (rest) => [ALICE, BOB].map((user) => claims(mint(user, rest)));
  const quote = (text) => `'${text.replaceAll("'", "''")}'`;

  const announced = (i, role, payload, headers) => `select set_config('search_path', '"public"', true), set_config('role', '${role}', true),
    set_config('request.jwt.claims', ${quote(payload)}, true), set_config('request.method', 'GET', true),
    set_config('request.path', '/notes', true), set_config('request.headers', ${quote(JSON.stringify({
    host: 'example.com', 'x-forwarded-for': `192.0.2.${i % 200}`, ...headers,
  }))}, true)`;
  const QUERY = 'select count(title) from notes';
  const ANON = '{"role": "anon"}';
  const list = [];
  /** Those of the `payloads` follow each other, so that no request finds what the one before has kept of its token. */
  const request = (name, role, payloads, { headers = () => ({}), query = () => QUERY, ...more } = {}) => list.push({
    name: `request: ${name}`, takes: 150, answer: /^1$/, ...more,
    statements: (i) => [announced(i, role, payloads[i % payloads.length], headers(i)), ...(more.next ? [more.next] : []), query(i)],
  });
  const asToken = (name, payloads, more) => request(name, 'authenticated', payloads, more);

  request('anon', 'anon', [ANON], { answer: /^0$/ });
  request('service_role', 'service_role', ['{"role": "service_role"}'], { answer: /^2$/ });
  asToken('logins in turn', [ALICE, BOB].map((user) => claims(value(`select access_token from pat.mint_session('${user}')`))));
  asToken('one JWT', [claims(mint(ALICE))]);
  asToken('JWTs in turn', both(`, attributes => '{"project": ["p1", "p2"]}'`));
  asToken('JWTs with scopes', both(", scopes => '{notes:read}'"));
  asToken('JWTs with addresses', both(", allowed_ips => '{192.0.2.0/24}'"));
  asToken('JWTs with a limit in memory, and headers of it', both(`, rate_limit => ${PLENTY}, rate_window => '1 hour'`));
  asToken('JWTs with a limit, a quota of a month, and headers of both',
    both(`, rate_limit => ${PLENTY}, rate_window => '1 day', quota => ${PLENTY}, quota_window => '31 days'`));
  const opaque = [ALICE, BOB].map((user) => mint(user, ", kind => 'opaque'"));
  request('opaque tokens', 'anon', [ANON], { headers: (i) => ({ 'x-api-key': opaque[i % 2] }) });
  const imported = ['a', 'b'].map((letter) => `imported_${letter.repeat(32)}`);
  for (const [place, token] of imported.entries()) {
    value(`select pat.import_token('${[ALICE, BOB][place]}', 'imported', encode(sha256('${token}'), 'hex'))`);
  }
  request('imported tokens', 'anon', [ANON], { headers: (i) => ({ 'x-api-key': imported[i % 2] }) });
  asToken('the token asks about itself', both(`, scopes => '{tokens:read,notes:read}', rate_limit => ${PLENTY}, rate_window => '1 hour'`),
    { query: () => 'select current_api_key()', answer: /remaining/, takes: 250 });
  asToken('the token is exchanged', both(''), { query: () => "select exchange_token(scopes => '{notes:read}')", answer: /bearer/i });
  asToken('gate as well', both(''), { next: 'select pat.gate()' });
  asToken('somebody acts for another within it', both(''),
    { query: (i) => `select set_config('request.jwt.claims', '{"role": "authenticated", "sub": "${[BOB, ALICE][i % 2]}"}', true); ${QUERY}` });

  asToken('refused: revoked', [tokens.claims.dead], { raises: 'PT401' });
  request('refused: opaque, revoked', 'anon', [ANON], { headers: () => ({ 'x-api-key': tokens.deadOpaque }), raises: 'PT401' });
  request('refused: not whole', 'anon', [ANON], { headers: (i) => ({ 'x-api-key': `sbpat_${i}` }), raises: 'PT401' });
  asToken('refused: address', both(", allowed_ips => '{198.51.100.0/24}'"), { raises: 'PT403' });
  asToken('refused: scope of the path', both(", scopes => '{todos:read}'"), { raises: 'PT403' });
  asToken('refused: scope of what is joined', both(", scopes => '{notes:read}'"),
    { query: () => 'select count(*) from notes join api_keys on true', raises: 'PT403' });
  asToken('refused: over its limit', both(", rate_limit => 1, rate_window => '31 days'"), { raises: 'PGRST', once: true });
  return list;
}

/** Makes the requests with the numbers from `first` on. Those that go through travel a hundred at a time. */
export async function makeRequests(client, request, first, count) {
  const TOGETHER = request.raises ? 1 : 100;
  const end = first + count;
  for (let i = first; i < end; i += TOGETHER) {
    const texts = [];
    for (let n = i; n < Math.min(end, i + TOGETHER); n += 1) texts.push(['begin', ...request.statements(n), 'commit'].join('; '));
    if (request.raises === undefined) {
      const answers = (await client.query(texts.join('; '))).filter(({ command }) => command === 'SELECT').map(({ rows: [row] }) => Object.values(row));
      const last = answers.filter((_, place) => (place + 1) % (answers.length / texts.length) === 0);
      const wrong = last.map(([shown]) => JSON.stringify(shown).replaceAll('"', '')).find((shown) => !request.answer.test(shown));
      if (wrong) throw new Error(`${request.name}: ${wrong}`);
      continue;
    }
    const code = await client.query(texts[0]).then(() => 'let through', (error) => error.code);
    await client.query('rollback');
    if (code !== request.raises && !(request.once && i < 2)) throw new Error(`${request.name}: ${code}`);
  }
}
