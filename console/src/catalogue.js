// What tokens can be limited to: what the REST server says it has, and the scopes of the extension's own functions.
import { ask } from './refusal.js';

const OWN_VIEWS = ['api_keys', 'api_key_events', 'api_key_daily_usage', 'service_accounts'];
/** The functions that the extension has in the schema of the API. A test compares them with the catalogue. */
export const OWN_FUNCTIONS = [
  'api_key_allows', 'api_key_attribute', 'confirm_sign_up', 'create_service_account', 'current_api_key',
  'current_api_key_id', 'delete_service_account', 'edit_pat', 'exchange_token', 'get_settings', 'has_scope',
  'introspect_token', 'is_active_session', 'is_service_account', 'is_valid_api_token', 'mint_pat', 'refresh_session',
  'report_leaked_tokens', 'request_password_reset', 'reset_password', 'revoke_all_pats', 'revoke_pat', 'rotate_pat',
  'service_account_tokens', 'session_info', 'set_settings', 'setting_definitions', 'sign_in', 'sign_out', 'sign_up',
  'signed_in_user', 'verify_reset_code',
];
/** The scopes that functions of the extension ask for. */
export const OWN_SCOPES = ['tokens:read', 'tokens:write', 'tokens:delete', 'user:read', 'settings:read', 'settings:write'];

/** The characters that the resource of a scope may have. What has others cannot be named. */
const NAMEABLE = /^[!#-)+-9;-[\]-~]{1,100}$/;
const ACTIONS = { get: 'read', post: 'write', patch: 'write', put: 'write', delete: 'delete' };

/** The tables with their actions, and the functions, from the OpenAPI document of the REST server. */
export async function readCatalogue(client) {
  const query = client.from('').select();
  query.url.searchParams.delete('select');
  const { paths = {} } = await ask(query) ?? {};
  const tables = [];
  const functions = [];
  for (const [path, methods] of Object.entries(paths)) {
    const name = decodeURIComponent(path.slice(1));
    if (!NAMEABLE.test(name)) continue;
    if (name.startsWith('rpc/')) {
      if (!OWN_FUNCTIONS.includes(name.slice(4))) functions.push(name.slice(4));
    } else if (!name.includes('/') && !OWN_VIEWS.includes(name)) {
      const actions = [...new Set(Object.keys(methods).map((method) => ACTIONS[method]).filter(Boolean))];
      tables.push({ name, actions: ['read', 'write', 'delete'].filter((action) => actions.includes(action)) });
    }
  }
  const byName = new Intl.Collator('en').compare;
  return { tables: tables.sort((a, b) => byName(a.name, b.name)), functions: functions.sort(byName) };
}
