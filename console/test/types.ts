// What an editor is to know. The compiler fails where a line that is to be an error is none.
import { createClient } from '@supabase/supabase-js';
import { setLocale, signOut } from '@supabase-pat/console';
import type { Database } from '@supabase-pat/console/database';

const client = createClient<Database>('https://api.example.com', 'key');

const minted = await client.rpc('mint_pat', { name: 'zapier', scopes: ['todos:read'], rate_limit: 100 });
const token: string | null | undefined = minted.data?.token;
// @ts-expect-error it has no such field
minted.data?.secret;
// @ts-expect-error there is no such function
await client.rpc('mint_patt', { name: 'zapier' });
// @ts-expect-error a limit is a number
await client.rpc('mint_pat', { name: 'zapier', rate_limit: 'many' });
// @ts-expect-error it has to be said which
await client.rpc('rotate_pat', {});
await client.rpc('revoke_pat', { id: 'an id', cascade: true });

const keys = await client.from('api_keys').select('id, name, scopes, last_used_at');
const scopes: string[] | null | undefined = keys.data?.[0]?.scopes;
// @ts-expect-error there is no such view
await client.from('api_key');

const status = await client.schema('pat').rpc('status');
const isGood: boolean | undefined = status.data?.every(({ ok }) => ok);
const signing = await client.schema('pat').from('signing_keys').select('kid, status');
const kid: string | undefined = signing.data?.[0]?.kid;

const tokens = document.createElement('pat-tokens');
tokens.client = client;
tokens.poll = 10;
tokens.addEventListener('pat-token-minted', ({ detail }) => console.log(detail.name, token, scopes, isGood, kid));
// @ts-expect-error no secret is in an event
tokens.addEventListener('pat-token-minted', ({ detail }) => console.log(detail.token));
await setLocale('es');
await signOut(client, 'global');
