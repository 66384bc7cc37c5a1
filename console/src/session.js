// The two ways of signing in: functions of the extension by RPC, and Supabase Auth. Which of them is there, the server says.
import { msg } from '@lit/localize';
import { Recovery } from './recovery.js';
import { Refusal, ask, askAuth } from './refusal.js';

/** By client: `rpc` or `auth`, once it is known. */
const ways = new WeakMap();
/** `signing in is off here`, and that there is no such function. */
const OFF = ['0A000', 'PGRST202', '42883'];

/** Signs in, and lets `keep` take the session. */
export async function signIn(client, { email, password, way }, keep) {
  await dropSession(client);
  const session = await byWay(client, way, ['sign_in'], {
    rpc: () => ask(client.rpc('sign_in', { email, password })),
    auth: async () => (await askAuth(client.auth.signInWithPassword({ email, password }))).session,
  }).catch((error) => { throw inWords(error, msg('The address or the password is wrong.')); });
  return keepSession(client, session, keep);
}

/** Signs up. Returns what `confirmSignUp` needs, or undefined if there is nothing to confirm. */
export async function signUp(client, { email, password, data = {}, way }, keep) {
  await dropSession(client);
  const signedUp = await byWay(client, way, ['sign_in', 'sign_up'], {
    rpc: () => ask(client.rpc('sign_up', { email, password, data })),
    auth: async () => {
      const { session } = await askAuth(client.auth.signUp({ email, password, options: { data } }));
      return session ?? { confirmation_token: email };
    },
  });
  if (signedUp.confirmation_token) return { way: ways.get(client), token: signedUp.confirmation_token };
  await keepSession(client, signedUp, keep);
  return undefined;
}

export async function confirmSignUp(client, { way, token }, code, keep) {
  const session = way === 'auth'
    ? (await askAuth(client.auth.verifyOtp({ email: token, token: code, type: 'signup' }))).session
    : await ask(client.rpc('confirm_sign_up', { token, code })).catch((error) => { throw inWords(error, wrongCode()); });
  return keepSession(client, session, keep);
}

/** Asks for a code. Returns what `resetPassword` needs. The answer is the same whether or not the account exists. */
export async function requestReset(client, { email, way: given }) {
  const way = given ?? ways.get(client) ?? await wayOf(client);
  if (way !== 'auth') return { token: await ask(client.rpc('request_password_reset', { email })) };
  await askAuth(client.auth.resetPasswordForEmail(email));
  return { recovery: new Recovery(client, email) };
}

/** Sets a new password, and ends all sessions and tokens. After a refusal a `recovery` says what has been done already. */
export async function resetPassword(client, { token, recovery }, { code, password }) {
  if (recovery) {
    await recovery.go(code, password);
  } else if (!await ask(client.rpc('reset_password', { token, code, new_password: password }))) {
    throw new Refusal({ message: wrongCode(), hint: msg('Look at the latest mail. After five wrong codes, ask for another one.'), status: 400 });
  }
  await dropSession(client);
}

/** Ends sessions: the present one (`local`), the `others`, or all (`global`). */
export async function signOut(client, scope) {
  const { session } = await ownSession(client);
  if (session && !isOurs(session.access_token)) {
    await askAuth(client.auth.signOut({ scope }));
    return;
  }
  // A session that has ended elsewhere is forgotten here all the same.
  await ask(client.rpc('sign_out', { scope })).catch((error) => {
    if (scope !== 'local' || ![401, 403].includes(error.status)) throw error;
  });
  if (scope !== 'others') await dropSession(client);
}

/** Which way there is. The functions say so without an address or a password, which are for one server alone. */
async function wayOf(client, names = ['sign_in']) {
  for (const name of names) if (await isOn(client, name)) return 'rpc';
  return 'auth';
}

async function isOn(client, name) {
  try {
    await ask(client.rpc(name, { email: null, password: null }));
  } catch (error) {
    if (OFF.includes(error.code)) return false;
    // `sign_in` answers 401 and nothing else, and `sign_up` that the address is null.
    if (error.code ? error.code !== '22004' : error.status !== 401) throw error;
  }
  return true;
}

async function byWay(client, given, names, calls) {
  const way = given ?? ways.get(client) ?? await wayOf(client, names);
  ways.set(client, way);
  return calls[way]();
}

async function keepSession(client, session, keep) {
  if (!session?.access_token) throw new Refusal({ message: msg('The server began no session.'), status: 401 });
  if (!keep(session)) return;
  const { access_token: accessToken, refresh_token: refreshToken } = session;
  await askAuth(client.auth.setSession({ access_token: accessToken, refresh_token: refreshToken }));
}

/** Forgets a session that may be dead: requests must not carry it. */
async function dropSession(client) {
  const { session } = await ownSession(client);
  if (session) await client.auth.signOut({ scope: 'local' });
}

/** The session that the client keeps. One that gets its access token from elsewhere has none, and throws. */
async function ownSession(client) {
  try {
    return await askAuth(client.auth.getSession());
  } catch (error) {
    if (error instanceof Refusal) throw error;
    return {};
  }
}

/** The functions answer null with a status: they do not say what is wrong. */
function inWords(error, wrong) {
  if (error.code || !(error instanceof Refusal)) return error;
  if (error.status === 401) return new Refusal({ message: wrong, status: 400 });
  if (error.status === 429) return new Refusal({ message: msg('There were too many wrong tries.'), status: 429 });
  return error;
}

function wrongCode() {
  return msg('The code is wrong, or no longer good.');
}

/** Whether a session is one of the extension's own functions. */
function isOurs(accessToken) {
  try {
    return JSON.parse(atob(accessToken.split('.')[1].replaceAll('-', '+').replaceAll('_', '/'))).iss === 'supabase_pat';
  } catch {
    return false;
  }
}
