// A plain page: whoever is signed in sees their tokens. Without a bundler, take the elements from
// node_modules/@supabase-pat/console/dist/elements/pat-console.js.
import { createClient } from '@supabase/supabase-js';
import '@supabase-pat/console';

const { url, anonKey } = await (await fetch('/config.json')).json();
const supabase = createClient(new URL(url, location.href).href.replace(/\/$/, ''), anonKey);

const signIn = document.querySelector('pat-sign-in');
const tokens = document.querySelector('pat-tokens');
signIn.client = supabase;
supabase.auth.onAuthStateChange((_, session) => {
  signIn.hidden = session !== null;
  tokens.hidden = session === null;
  // Without a client it shows nothing, and asks for nothing.
  tokens.client = session === null ? undefined : supabase;
});
tokens.addEventListener('pat-token-minted', ({ detail }) => {
  document.querySelector('[role=status]').textContent = `${detail.name} was made`;
});
