// A plain page without a bundler: it mounts one element with a client of its own, which keeps the session in `store` if
// that is the name of one.
import '/elements/pat-console.js';

globalThis.mount = async (name, { key, session, token, store }) => {
  const auth = store ? { storage: globalThis[store], storageKey: 'shared' } : { persistSession: false };
  const client = globalThis.supabase.createClient(location.origin, key, token ? { accessToken: async () => token } : { auth });
  if (session) await client.auth.setSession(session);
  const element = document.createElement(name);
  element.client = client;
  globalThis.told = [];
  for (const event of ['pat-token-minted', 'pat-token-revoked', 'pat-settings-saved', 'pat-signed-in', 'pat-session', 'pat-refused']) {
    element.addEventListener(event, ({ type, detail }) => globalThis.told.push({ type, detail }));
  }
  document.querySelector('main').append(element);
};
