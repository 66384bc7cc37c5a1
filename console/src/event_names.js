// Events and reasons of refusals, as people say them. What is not known here is shown as it is.
import { msg } from '@lit/localize';

export function eventName(event) {
  return {
    token_minted: msg('Token made'),
    token_imported: msg('Token imported'),
    token_rotated: msg('Token made by a rotation'),
    token_revoked: msg('Token revoked'),
    token_deleted: msg('Token removed'),
    token_denied: msg('Token denied'),
    token_leaked: msg('Token reported as leaked'),
    token_edited: msg('Token edited'),
    token_disabled: msg('Token disabled'),
    token_enabled: msg('Token enabled'),
    refused: msg('Request refused'),
    jwt_signed: msg('JWT signed'),
    api_key_minted: msg('API key made'),
    service_account_created: msg('Service account made'),
    service_account_deleted: msg('Service account deleted'),
    signed_up: msg('Signed up'),
    signed_in: msg('Signed in'),
    sign_in_refused: msg('Sign-in refused'),
    session_minted: msg('Session made by the operator'),
    session_expired: msg('Session expired'),
    refresh_refused: msg('Refresh refused'),
    refresh_token_reused: msg('Refresh token used twice'),
    password_reset: msg('Password reset'),
    reset_code_refused: msg('Code refused'),
  }[event] ?? event;
}

export function refusalName(reason) {
  return {
    malformed_token: msg('not a token'),
    malformed_claims: msg('claims that make no sense'),
    unknown_token: msg('there is no such token'),
    revoked: msg('it was revoked'),
    expired: msg('it had expired'),
    user_gone: msg('its user is gone'),
    user_banned: msg('its user is banned'),
    session_ended: msg('the session has ended'),
    denied: msg('it was denied'),
    disabled: msg('it was disabled'),
    address_unknown: msg('from an address that is not known'),
    address_not_allowed: msg('from another address'),
    scope_missing: msg('without the scope for it'),
    unknown_request: msg('not a request that it may make'),
    role_not_allowed: msg('with a role that is not allowed'),
    too_many_requests: msg('more requests than its limit'),
    no_room: msg('no room to count it'),
  }[reason] ?? reason;
}
