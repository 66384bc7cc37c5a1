import type { SupabaseClient } from '@supabase/supabase-js';

/** Any client of supabase-js, whatever its schemas. */
export type Client = SupabaseClient<any, any, any, any, any>;
/** The two ways of signing in: functions of the extension, and Supabase Auth. */
export type Way = 'rpc' | 'auth';

declare class PatElement extends HTMLElement {
  client: Client | undefined;
}

export class PatAccount extends PatElement {}
export class PatDeniedTokens extends PatElement {}
export class PatDoctor extends PatElement {}
export class PatEvents extends PatElement {}
export class PatKeyInspector extends PatElement {}
export class PatSettings extends PatElement {}
export class PatSigningKeys extends PatElement {}
export class PatResetPassword extends PatElement {
  /** Without it, that of the last login, or what the server says. */
  way: Way | undefined;
}
export class PatSignIn extends PatElement {
  way: Way | undefined;
  noSignUp: boolean;
}
export class PatTokens extends PatElement {
  /** Every so many seconds the list is loaded anew; 0 for never. */
  poll: number;
  /** JSON Schemas of attributes by their names. */
  attributeSchemas: Record<string, object>;
  /** The address of the REST server in the line for curl. */
  restUrl: string | undefined;
}

export class PatUsage extends PatElement {}

/** What the server, or the way to it, has refused. `status` is 0 where no answer came. */
export class Refusal extends Error {
  hint: string | undefined;
  code: string | undefined;
  status: number;
}

export const LANGUAGES: Record<string, string>;
export function getLocale(): string;
/** Shows all elements in another language: `en` or `es`. */
export function setLocale(locale: string): Promise<void>;
/** The Spanish templates, for pages that have configured @lit/localize themselves. */
export const spanish: { templates: Record<string, unknown>; texts: string[] };
/** Ends the present session, the others, or all, in the way in which it was begun. */
export function signOut(client: Client, scope: 'local' | 'others' | 'global'): Promise<void>;

export interface Session {
  access_token: string;
  refresh_token: string;
  token_type: string;
  expires_in: number;
  expires_at: number;
  user: unknown;
}

export interface PatEventDetails {
  'pat-session': { session: Session };
  'pat-signed-up': { isConfirmed: boolean };
  'pat-signed-in': Record<string, never>;
  'pat-signed-out': { scope: 'local' | 'others' | 'global' };
  'pat-forgotten': Record<string, never>;
  'pat-sign-in': Record<string, never>;
  'pat-password-reset': Record<string, never>;
  'pat-token-minted': { id: string; name: string; expires_at: string };
  'pat-token-rotated': { id: string; name: string; replaces: string };
  'pat-token-edited': { id: string };
  'pat-token-disabled': { id: string };
  'pat-token-enabled': { id: string };
  'pat-token-revoked': { id: string };
  'pat-token-removed': { id: string };
  'pat-tokens-revoked': { count: number };
  'pat-settings-saved': { keys: string[] };
  'pat-signing-key-added': { kid: string };
  'pat-signing-key-rotated': { kid: string };
  'pat-signing-key-revoked': { kid: string };
  'pat-token-denied': Record<string, never>;
  'pat-token-accepted': Record<string, never>;
  'pat-refused': { message: string; code: string | undefined; status: number };
}

type PatEventMap = { [Name in keyof PatEventDetails]: CustomEvent<PatEventDetails[Name]> };

declare global {
  interface HTMLElementEventMap extends PatEventMap {}
  interface HTMLElementTagNameMap {
    'pat-account': PatAccount;
    'pat-denied-tokens': PatDeniedTokens;
    'pat-doctor': PatDoctor;
    'pat-events': PatEvents;
    'pat-key-inspector': PatKeyInspector;
    'pat-reset-password': PatResetPassword;
    'pat-settings': PatSettings;
    'pat-sign-in': PatSignIn;
    'pat-signing-keys': PatSigningKeys;
    'pat-tokens': PatTokens;
    'pat-usage': PatUsage;
  }
}
