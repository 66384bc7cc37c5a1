// The page: it reads config.json beside it, makes a client of supabase-js, and shows the elements.
import { createClient } from '@supabase/supabase-js';
import '../src/index.js';
import { PatConsole } from './console.js';
import { LANGUAGES, setLocale } from '../src/index.js';

/** What somebody has chosen, or what the browser asks for. Nothing else is stored but the session, for this tab. */
const wanted = localStorage.getItem('pat-language') ?? navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => tag in LANGUAGES) ?? 'en';
await setLocale(wanted in LANGUAGES ? wanted : 'en');

/**
 * supabase-js posts each login, with its tokens, to all pages of this origin that name the same key of storage, and these take
 * it for their own. So each page makes up a key, and what is stored for this tab has one name all the same.
 */
const storageKey = `pat-session-${crypto.getRandomValues(new Uint32Array(4)).join('-')}`;
const storage = Object.fromEntries(['getItem', 'setItem', 'removeItem']
  .map((name) => [name, (key, ...value) => sessionStorage[name](key.replace(storageKey, 'pat-session'), ...value)]));

PatConsole.connect = async () => {
  const answer = await fetch('config.json', { cache: 'no-cache' });
  if (!answer.ok) throw new Error('config.json is missing');
  const { url, anonKey, title, hasOperator = true } = await answer.json();
  const address = new URL(url, location.href).href.replace(/\/$/, '');
  return {
    title,
    hasOperator,
    client: createClient(address, anonKey, {
      auth: { storage, storageKey, detectSessionInUrl: false },
    }),
    // The operator's key is in the memory of this page alone, and a reload forgets it.
    asOperator: (key) => createClient(address, key, { accessToken: async () => key }),
  };
};
customElements.define('pat-console', PatConsole);
