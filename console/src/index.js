// The elements. Importing this file defines them.
import { PatAccount } from './account.js';
import { PatDeniedTokens } from './operator/denied_tokens.js';
import { PatDoctor } from './doctor.js';
import { PatEvents } from './operator/events.js';
import { PatKeyInspector } from './operator/key_inspector.js';
import { PatResetPassword } from './reset_password.js';
import { PatScopes } from './scopes.js';
import { PatSettings } from './settings.js';
import { PatSignIn } from './sign_in.js';
import { PatSigningKeys } from './operator/signing_keys.js';
import { PatTokens } from './tokens.js';
import { PatUsage } from './operator/usage.js';

const ELEMENTS = {
  'pat-account': PatAccount,
  'pat-denied-tokens': PatDeniedTokens,
  'pat-doctor': PatDoctor,
  'pat-events': PatEvents,
  'pat-key-inspector': PatKeyInspector,
  'pat-reset-password': PatResetPassword,
  'pat-scopes': PatScopes,
  'pat-settings': PatSettings,
  'pat-sign-in': PatSignIn,
  'pat-signing-keys': PatSigningKeys,
  'pat-tokens': PatTokens,
  'pat-usage': PatUsage,
};
// A page may get them twice, by two bundles.
for (const [name, element] of Object.entries(ELEMENTS)) {
  if (!customElements.get(name)) customElements.define(name, element);
}

export { LANGUAGES, getLocale, setLocale, spanish } from './locale.js';
export { Refusal } from './refusal.js';
export { signOut } from './session.js';
export {
  PatAccount, PatDeniedTokens, PatDoctor, PatEvents, PatKeyInspector, PatResetPassword, PatScopes, PatSettings, PatSignIn, PatSigningKeys, PatTokens,
  PatUsage,
};
