// The page: it reads config.json beside it, makes a client of supabase-js, and shows the elements.
import { createClient } from '@supabase/supabase-js';
import '../src/index.js';
import { PatConsole } from './console.js';
import { LANGUAGES, setLocale } from '../src/index.js';

/** What somebody has chosen, or what the browser asks for. Nothing else is stored but the session, for this tab. */
const wanted = localStorage.getItem('pat-language') ?? navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => tag in LANGUAGES) ?? 'en';
await setLocale(wanted in LANGUAGES ? wanted : 'en');

PatConsole.connect = async () => {
  const answer = await fetch('config.json', { cache: 'no-cache' });
  if (!answer.ok) throw new Error('config.json is missing');
  const { url, anonKey, title, hasOperator = true } = await answer.json();
  const address = new URL(url, location.href).href.replace(/\/$/, '');
  return {
    title,
    hasOperator,
    client: createClient(address, anonKey, {
      auth: { storage: sessionStorage, storageKey: 'pat-session', detectSessionInUrl: false },
    }),
    // The operator's key is in the memory of this page alone, and a reload forgets it.
    asOperator: (key) => createClient(address, key, { accessToken: async () => key }),
  };
};
customElements.define('pat-console', PatConsole);
