// Made by scripts/types.mjs from the catalogue. A test compares it with that: do not change it by hand.
export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

/** What the extension has for clients: `createClient<Database>(url, key)`, or part of a type of your own. */
export type Database = {
  public: {
    Tables: { [_ in never]: never };
    Views: {
      /** How many requests each of your personal access tokens made on each day, and how many were refused. */
      api_key_daily_usage: {
        Row: {
          day: string | null;
          key_id: string | null;
          name: string | null;
          refused: number | null;
          requests: number | null;
        };
        Relationships: [];
      };
      /** What happened to the caller's personal access tokens: minted, rotated, revoked, deleted, refused. */
      api_key_events: {
        Row: {
          address: string | null;
          by_key: string | null;
          count: number | null;
          detail: string | null;
          event: string | null;
          happened_at: string | null;
          key_id: string | null;
          role: string | null;
          user_id: string | null;
        };
        Relationships: [];
      };
      /** Your personal access tokens. Deleting a row revokes its token. */
      api_keys: {
        Row: {
          allowed_ips: string[] | null;
          attributes: Json | null;
          created_at: string | null;
          description: string | null;
          disabled_at: string | null;
          expires_at: string | null;
          hint: string | null;
          id: string | null;
          is_active: boolean | null;
          kind: string | null;
          last_used_at: string | null;
          last_used_ip: string | null;
          name: string | null;
          quota: number | null;
          quota_window: string | null;
          rate_limit: number | null;
          rate_window: string | null;
          revoked_at: string | null;
          scopes: string[] | null;
          user_id: string | null;
        };
        Relationships: [];
      };
      /** The service accounts that the caller manages, as the function in supabase_pat.service_account_manager decides. */
      service_accounts: {
        Row: {
          created_at: string | null;
          created_by: string | null;
          description: string | null;
          id: string | null;
          name: string | null;
        };
        Relationships: [];
      };
    };
    Functions: {
      /** For policies: whether the value is among those of an attribute of the request's token. True for a login, and for a token that does not have the attribute; false for a token that is not valid.
       * 
       * Or: As api_key_allows(name, value), for an id: it is compared as text, but not converted to text for each row. */
      api_key_allows: {
        Args: {
          name: string;
          value: string;
        };
        Returns: boolean;
      } | {
        Args: {
          name: string;
          id: string;
        };
        Returns: boolean;
      };
      /** The value of an attribute of the request's token, as it is now. Null for a login, for a token that does not have it, and for one that is not valid: to limit what is seen, use api_key_allows(). */
      api_key_attribute: {
        Args: {
          name: string;
        };
        Returns: Json;
      };
      /** Confirms the address of a new user with the token of sign_up and the code that came by e-mail, and begins a session. Null, with status 401 over REST, for a wrong token or code. */
      confirm_sign_up: {
        Args: {
          token: string;
          code: string;
        };
        Returns: Database['public']['CompositeTypes']['minted_session'];
      };
      /** Creates a user for a machine, who has tokens and no login, and returns the id. Trusted roles may call it; for other callers the function in supabase_pat.service_account_manager decides, which is asked with null. name: up to 100 characters. description: for people. Whoever manages the account passes the id as user_id to mint_pat and similar functions. A request made with a token needs the scope service_accounts:write. */
      create_service_account: {
        Args: {
          name: string;
          description?: string;
        };
        Returns: string;
      };
      /** What the token of this request is: id, name, description, kind, scopes, attributes, created_at, expires_at, and of its rate_limit and quota the limit, the window in seconds, what remains of it, and the Unix time at which the next window begins. Null for a login, and for a token that is not valid. It needs no scope. */
      current_api_key: {
        Args: Record<PropertyKey, never>;
        Returns: Json;
      };
      /** Which token made this request: its id in api_keys. Null for a login. It does not say whether the token is valid. */
      current_api_key_id: {
        Args: Record<PropertyKey, never>;
        Returns: string;
      };
      /** Deletes a service account that the caller manages: revokes its tokens, and deletes its user from auth.users, with what refers to that user there. False if there is no such account, or the caller does not manage it. A request made with a token needs the scope service_accounts:delete. */
      delete_service_account: {
        Args: {
          id: string;
        };
        Returns: boolean;
      };
      /** Changes a live token of the caller (of anyone, for a trusted role): its name and description, and what it may do, which can only become less. null leaves something as it is; an empty description removes it. expires_in: counted from now. attributes: a patch (RFC 7396). disabled: true refuses the token until it is enabled again with false. A token may narrow itself; for everything else a request made with a token needs the scopes tokens:write and, for other tokens, tokens:delete. */
      edit_pat: {
        Args: {
          id: string;
          name?: string;
          description?: string;
          scopes?: string[];
          attributes?: Json;
          expires_in?: string;
          allowed_ips?: string[];
          rate_limit?: number;
          rate_window?: string;
          disabled?: boolean;
          quota?: number;
          quota_window?: string;
        };
        Returns: undefined;
      };
      /** For a request that is made with a personal access token: returns a short-lived JWT in its place, for servers that take only JWTs, or for somebody who should be allowed less. The JWT has the id of the token, so whatever ends the token ends it too. It lives no longer than the token, and an hour at most. It has the token's scopes, or those of them that are named, without tokens:write and tokens:delete. Tokens with allowed_ips or a limit cannot be exchanged. Stores nothing, and needs no scope. */
      exchange_token: {
        Args: {
          lifetime?: string;
          scopes?: string[];
        };
        Returns: Database['public']['CompositeTypes']['exchanged_token'];
      };
      /** The settings that count for this request: for each declared setting its default, patched with the user's own value, patched with the value in overrides (RFC 7396). A null override counts as none. Without a login: the defaults and the overrides. */
      get_settings: {
        Args: {
          overrides?: Json;
        };
        Returns: Json;
      };
      /** For policies: whether the request may do resource:action. True for a login; for a valid token, whether its scopes cover it. A token without scopes has every scope but those that must be named, such as tokens:write. */
      has_scope: {
        Args: {
          scope: string;
        };
        Returns: boolean;
      };
      /** For another service that is handed a token: the answer of RFC 7662. For a token that is not valid it is {"active": false}, without a reason and never an error. For a valid token it also has sub, role, scope, exp, iat, iss, aud, jti, username, name and kind: jwt or opaque for a personal access token, session for a login, api_key for a Supabase API key. If scope is given (several are separated by spaces), the token is active only if it grants them all. A token with allowed_ips, a rate limit or a quota is not active, since only where its request is judged can it be held to them. The use of the token is recorded. For trusted roles. */
      introspect_token: {
        Args: {
          token: string;
          scope?: string;
        };
        Returns: Json;
      };
      /** For policies: whether the session of the request still exists, and its user may log in. For a personal access token, whether the token is valid. True for requests without a session, such as those of anon. */
      is_active_session: {
        Args: Record<PropertyKey, never>;
        Returns: boolean;
      };
      /** For policies: whether the user of the request is a service account. It does not say whether the token is valid. */
      is_service_account: {
        Args: Record<PropertyKey, never>;
        Returns: boolean;
      };
      /** For policies: true unless the request was made with a personal access token that is unknown, another user's, revoked, disabled or expired, or whose user is deleted or banned, or that needs the guard or the gate and has not been let through by it. True for logins, anon and sessions without claims. Never raises an error. */
      is_valid_api_token: {
        Args: Record<PropertyKey, never>;
        Returns: boolean;
      };
      /** Mints a personal access token and returns it with its id, name and expiry. The token is shown only this once. user_id: null for the caller; only a trusted role may name another user, and a manager a service account. name: what will use it. expires_in: null for supabase_pat.default_lifetime. scopes: null for everything except what needs a scope by name. kind: jwt, or opaque for a short token that goes into a header of supabase_pat.token_headers. allowed_ips: the networks from which it may be used; null for all. rate_limit: how many requests it may make in each rate_window; null for no limit. quota: the same for a second limit, in each quota_window. Opaque tokens, scopes, allowed_ips and limits need the guard or pat.gate(). attributes: an object of what it is also limited to, as declared with pat.define_key_attribute(). description: for people. A request made with a token needs the scope tokens:write, and grants no more than it has. A restricted login (of an application, of an anonymous user) mints none unless supabase_pat.mint_for_restricted_logins is on. */
      mint_pat: {
        Args: {
          user_id?: string;
          name?: string;
          expires_in?: string;
          scopes?: string[];
          kind?: string;
          allowed_ips?: string[];
          rate_limit?: number;
          rate_window?: string;
          attributes?: Json;
          description?: string;
          quota?: number;
          quota_window?: string;
        };
        Returns: Database['public']['CompositeTypes']['minted_pat'];
      };
      /** New tokens of a session in exchange for its refresh token, which they replace. Null, with status 401 over REST, for a refresh token that is refused. A token that was replaced longer ago than supabase_pat.refresh_reuse_interval ends the session. */
      refresh_session: {
        Args: {
          refresh_token: string;
        };
        Returns: Database['public']['CompositeTypes']['minted_session'];
      };
      /** For anybody who finds leaked tokens: revokes each live personal access token among them and the tokens that were made with it, and denies keys of the service role. Whoever has the whole token may report it. found_at: where it was found, for the events, up to 200 characters. The answer is the same whatever the tokens are. Off unless supabase_pat.enable_leak_reports is on. */
      report_leaked_tokens: {
        Args: {
          tokens: string[];
          found_at?: string;
        };
        Returns: undefined;
      };
      /** Puts a message with a code for a new password into the outbox if the address belongs to a user, and returns the token that goes with the code. The answer is the same whether or not there is such a user. */
      request_password_reset: {
        Args: {
          email: string;
        };
        Returns: string;
      };
      /** Sets a new password for whoever has the token and its code, and ends the sessions of that user. False for a wrong code or token; an error for a password that is not acceptable. */
      reset_password: {
        Args: {
          token: string;
          code: string;
          new_password: string;
        };
        Returns: boolean;
      };
      /** Revokes all live tokens of a user, null for the caller, and returns how many there were. A request made with a token needs the scope tokens:delete. */
      revoke_all_pats: {
        Args: {
          user_id?: string;
        };
        Returns: number;
      };
      /** Revokes a token of the caller (of anyone, for a trusted role), from the next statement on; without an id, the token that the request was made with. True if it was live; false if it was not, or is not yours.
       * 
       * Or: As revoke_pat(id); with cascade it also revokes the tokens that were made with the token, those that were made with these, and so on, even if the token itself is no longer live or has been deleted. True if any of them was live. */
      revoke_pat: {
        Args: {
          id?: string;
        };
        Returns: boolean;
      } | {
        Args: {
          id: string;
          cascade: boolean;
        };
        Returns: boolean;
      };
      /** Replaces a live token of the caller (of anyone, for a trusted role) by a new one of the same kind, name, scopes, limits and lifetime. The old one is valid until the end of grace, which by default is at once. A request made with a token needs the scope tokens:write and, for other tokens, tokens:delete. */
      rotate_pat: {
        Args: {
          id: string;
          grace?: string;
        };
        Returns: Database['public']['CompositeTypes']['minted_pat'];
      };
      /** The tokens of a service account that the caller manages, as api_keys shows one's own. A request made with a token needs the scope service_accounts:read. */
      service_account_tokens: {
        Args: {
          account: string;
        };
        Returns: {
          id: string;
          name: string;
          kind: string;
          scopes: string[];
          allowed_ips: string[];
          rate_limit: number;
          rate_window: string;
          hint: string;
          created_at: string;
          expires_at: string;
          last_used_at: string;
          last_used_ip: string;
          revoked_at: string;
          is_active: boolean;
          description: string;
          attributes: Json;
          disabled_at: string;
          quota: number;
          quota_window: string;
        }[];
      };
      /** What the claims of the request say about its session. should_refresh: less than a minute is left. */
      session_info: {
        Args: Record<PropertyKey, never>;
        Returns: Database['pat']['CompositeTypes']['session_report'];
      };
      /** Patches your own settings (RFC 7396), all of them or none, and returns what get_settings() then returns. null removes your value, so that the default counts again. A token with a list of scopes needs settings:write. */
      set_settings: {
        Args: {
          patch: Json;
        };
        Returns: Json;
      };
      /** The settings that are declared, for a program that shows a form for them: an object with the default, schema (a JSON Schema, or null) and overridable of each. It holds no user's values. */
      setting_definitions: {
        Args: Record<PropertyKey, never>;
        Returns: Json;
      };
      /** Begins a session for an address and its password. Null if the password is wrong: over REST with status 401, or 429 after too many wrong ones. Off unless supabase_pat.enable_sign_in is on. */
      sign_in: {
        Args: {
          email: string;
          password: string;
        };
        Returns: Database['public']['CompositeTypes']['minted_session'];
      };
      /** Ends sessions of the caller: local, the present one; others; or global, all of them. Returns how many. */
      sign_out: {
        Args: {
          scope?: string;
        };
        Returns: number;
      };
      /** Creates a user with an address and a password; data becomes their user_metadata. With supabase_pat.confirm_sign_up it returns a confirmation_token, which confirm_sign_up takes with the code that comes by e-mail; otherwise it returns a session. Signing up again replaces the password of a user whom sign_up has created and to whom nothing has happened since, such as a confirmation or a login. Off unless supabase_pat.enable_sign_up is on. */
      sign_up: {
        Args: {
          email: string;
          password: string;
          data?: Json;
        };
        Returns: Database['public']['CompositeTypes']['signed_up'];
      };
      /** The user of the request, as Supabase Auth shows a user to themselves; null without one. A token with a list of scopes needs user:read. */
      signed_in_user: {
        Args: Record<PropertyKey, never>;
        Returns: Json;
      };
      /** Whether the code belongs to the token, and both are still valid. A wrong code is counted: after supabase_pat.reset_max_attempts of them the token is no longer valid, and after too many for an address, from one client or from everybody together, short codes are refused. The code stays valid for reset_password. */
      verify_reset_code: {
        Args: {
          token: string;
          code: string;
        };
        Returns: boolean;
      };
    };
    Enums: { [_ in never]: never };
    CompositeTypes: {
      exchanged_token: {
        access_token: string | null;
        expires_in: number | null;
        scope: string | null;
        token_type: string | null;
      };
      minted_pat: {
        expires_at: string | null;
        id: string | null;
        name: string | null;
        token: string | null;
      };
      minted_session: {
        access_token: string | null;
        expires_at: number | null;
        expires_in: number | null;
        refresh_token: string | null;
        token_type: string | null;
        user: Json | null;
      };
      signed_up: {
        access_token: string | null;
        confirmation_token: string | null;
        expires_at: number | null;
        expires_in: number | null;
        refresh_token: string | null;
        token_type: string | null;
        user: Json | null;
      };
    };
  };
  pat: {
    Tables: {
      /** How many requests each token made on each day, but for its latest one, which is in pat.api_key_usage. */
      api_key_days: {
        Row: {
          day: string;
          key_id: string;
          refused: number;
          requests: number;
          user_id: string;
        };
        Insert: {
          day: string;
          key_id: string;
          refused: number;
          requests: number;
          user_id: string;
        };
        Update: {
          day?: string;
          key_id?: string;
          refused?: number;
          requests?: number;
          user_id?: string;
        };
        Relationships: [];
      };
      /** When each token was last used, and how often on its latest day. */
      api_key_usage: {
        Row: {
          day: string | null;
          key_id: string;
          last_used_at: string | null;
          last_used_ip: string | null;
          refused: number;
          requests: number;
          user_id: string;
        };
        Insert: {
          day?: string | null;
          key_id: string;
          last_used_at?: string | null;
          last_used_ip?: string | null;
          refused?: number;
          requests?: number;
          user_id: string;
        };
        Update: {
          day?: string | null;
          key_id?: string;
          last_used_at?: string | null;
          last_used_ip?: string | null;
          refused?: number;
          requests?: number;
          user_id?: string;
        };
        Relationships: [];
      };
      /** One row per personal access token. The tokens themselves are not stored. */
      api_keys: {
        Row: {
          allowed_ips: string[] | null;
          attributes: Json | null;
          created_at: string;
          description: string | null;
          disabled_at: string | null;
          expires_at: string;
          hint: string | null;
          id: string;
          kind: string;
          name: string;
          quota: number | null;
          quota_window: string | null;
          rate_limit: number | null;
          rate_window: string | null;
          replaced_by: string | null;
          revoked_at: string | null;
          scopes: string[] | null;
          signing_key: string | null;
          token_digest: string | null;
          user_id: string;
        };
        Insert: {
          allowed_ips?: string[] | null;
          attributes?: Json | null;
          created_at?: string;
          description?: string | null;
          disabled_at?: string | null;
          expires_at: string;
          hint?: string | null;
          id: string;
          kind?: string;
          name: string;
          quota?: number | null;
          quota_window?: string | null;
          rate_limit?: number | null;
          rate_window?: string | null;
          replaced_by?: string | null;
          revoked_at?: string | null;
          scopes?: string[] | null;
          signing_key?: string | null;
          token_digest?: string | null;
          user_id: string;
        };
        Update: {
          allowed_ips?: string[] | null;
          attributes?: Json | null;
          created_at?: string;
          description?: string | null;
          disabled_at?: string | null;
          expires_at?: string;
          hint?: string | null;
          id?: string;
          kind?: string;
          name?: string;
          quota?: number | null;
          quota_window?: string | null;
          rate_limit?: number | null;
          rate_window?: string | null;
          replaced_by?: string | null;
          revoked_at?: string | null;
          scopes?: string[] | null;
          signing_key?: string | null;
          token_digest?: string | null;
          user_id?: string;
        };
        Relationships: [];
      };
      /** JWTs that are refused though their signature is right, as digests: see pat.deny_token. */
      denied_tokens: {
        Row: {
          claims_digest: string;
          denied_at: string;
          expires_at: string | null;
          message_digest: string;
          other_claims_digests: string | null;
          reason: string | null;
          role: string | null;
          user_id: string | null;
        };
        Insert: {
          claims_digest: string;
          denied_at?: string;
          expires_at?: string | null;
          message_digest: string;
          other_claims_digests?: string | null;
          reason?: string | null;
          role?: string | null;
          user_id?: string | null;
        };
        Update: {
          claims_digest?: string;
          denied_at?: string;
          expires_at?: string | null;
          message_digest?: string;
          other_claims_digests?: string | null;
          reason?: string | null;
          role?: string | null;
          user_id?: string | null;
        };
        Relationships: [];
      };
      /** The audit trail: what happened, to which user and token, and by whom. No secret is in it. */
      events: {
        Row: {
          address: string | null;
          by_key: string | null;
          count: number;
          detail: string | null;
          event: string;
          happened_at: string;
          id: number;
          key_id: string | null;
          role: string | null;
          user_id: string | null;
        };
        Insert: {
          address?: string | null;
          by_key?: string | null;
          count?: number;
          detail?: string | null;
          event: string;
          happened_at?: string;
          id?: number;
          key_id?: string | null;
          role?: string | null;
          user_id?: string | null;
        };
        Update: {
          address?: string | null;
          by_key?: string | null;
          count?: number;
          detail?: string | null;
          event?: string;
          happened_at?: string;
          id?: number;
          key_id?: string | null;
          role?: string | null;
          user_id?: string | null;
        };
        Relationships: [];
      };
      /** The attributes that tokens may have. Change them with pat.define_key_attribute() and pat.drop_key_attribute(). */
      key_attributes: {
        Row: {
          created_at: string;
          name: string;
          required: boolean;
          schema: Json | null;
        };
        Insert: {
          created_at?: string;
          name: string;
          required?: boolean;
          schema?: Json | null;
        };
        Update: {
          created_at?: string;
          name?: string;
          required?: boolean;
          schema?: Json | null;
        };
        Relationships: [];
      };
      /** Which users are service accounts. Change it with create_service_account() and delete_service_account(). */
      service_accounts: {
        Row: {
          created_at: string;
          created_by: string | null;
          description: string | null;
          name: string;
          user_id: string;
        };
        Insert: {
          created_at?: string;
          created_by?: string | null;
          description?: string | null;
          name: string;
          user_id: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          description?: string | null;
          name?: string;
          user_id?: string;
        };
        Relationships: [];
      };
      /** The settings that users have. Change them with pat.define_setting() and pat.drop_setting(). */
      setting_definitions: {
        Row: {
          created_at: string;
          default_value: Json;
          key: string;
          overridable: boolean;
          schema: Json | null;
        };
        Insert: {
          created_at?: string;
          default_value: Json;
          key: string;
          overridable?: boolean;
          schema?: Json | null;
        };
        Update: {
          created_at?: string;
          default_value?: Json;
          key?: string;
          overridable?: boolean;
          schema?: Json | null;
        };
        Relationships: [];
      };
      /** The keys that tokens are signed with. Change them with pat.add_signing_key() and similar functions. */
      signing_keys: {
        Row: {
          activated_at: string | null;
          algorithm: string;
          created_at: string;
          kid: string;
          revoked_at: string | null;
          status: string;
        };
        Insert: {
          activated_at?: string | null;
          algorithm: string;
          created_at?: string;
          kid: string;
          revoked_at?: string | null;
          status?: string;
        };
        Update: {
          activated_at?: string | null;
          algorithm?: string;
          created_at?: string;
          kid?: string;
          revoked_at?: string | null;
          status?: string;
        };
        Relationships: [];
      };
      /** What users have set, where it differs from the defaults. Change it with set_settings(). */
      user_settings: {
        Row: {
          settings: Json;
          updated_at: string;
          user_id: string;
        };
        Insert: {
          settings: Json;
          updated_at?: string;
          user_id: string;
        };
        Update: {
          settings?: Json;
          updated_at?: string;
          user_id?: string;
        };
        Relationships: [];
      };
    };
    Views: {
      /** How many requests each token of each user made on each day, and how many were refused. For trusted roles. */
      usage_by_day: {
        Row: {
          day: string | null;
          key_id: string | null;
          name: string | null;
          refused: number | null;
          requests: number | null;
          user_id: string | null;
        };
        Relationships: [];
      };
    };
    Functions: {
      /** Adds a signing key on standby and returns its kid. alg: HS256, HS384, HS512, ES256, RS256 or EdDSA. secret: for the HMAC algorithms, null to have one generated. kid: null for a random UUID. For trusted roles. */
      add_signing_key: {
        Args: {
          alg?: string;
          secret?: string;
          kid?: string;
        };
        Returns: string;
      };
      /** As in pgjwt: the signature of a text, in base64url. */
      algorithm_sign: {
        Args: {
          signables: string;
          secret: string;
          algorithm: string;
        };
        Returns: string;
      };
      /** Returns what auth.email() returns, or raises the same error, computed once per statement. With supabase_pat.fast_auth_functions it replaces auth.email() in plans. */
      auth_email: {
        Args: Record<PropertyKey, never>;
        Returns: string;
      };
      /** Why auth.uid(), auth.role(), auth.email() or auth.jwt() is not replaced in plans, or null. For pat.status(); for trusted roles. */
      auth_function_problem: {
        Args: {
          name: string;
        };
        Returns: string;
      };
      /** Returns what auth.jwt() returns, or raises the same error, computed once per statement. With supabase_pat.fast_auth_functions it replaces auth.jwt() in plans. */
      auth_jwt: {
        Args: Record<PropertyKey, never>;
        Returns: Json;
      };
      /** Returns what auth.role() returns, or raises the same error, computed once per statement. With supabase_pat.fast_auth_functions it replaces auth.role() in plans. */
      auth_role: {
        Args: Record<PropertyKey, never>;
        Returns: string;
      };
      /** Returns what auth.uid() returns, or raises the same error, computed once per statement. With supabase_pat.fast_auth_functions it replaces auth.uid() in plans. */
      auth_uid: {
        Args: Record<PropertyKey, never>;
        Returns: string;
      };
      /** The token in the value of an Authorization header, null if its scheme is not Bearer. */
      bearer_token: {
        Args: {
          authorization: string;
        };
        Returns: string;
      };
      /** Hands out up to max messages of the outbox to be sent, with address and code in the clear, and keeps them from other workers for supabase_pat.outbox_lease. A message that is neither confirmed nor returned is handed out again. For trusted roles; NOTIFY supabase_pat_outbox says that there is one. */
      claim_messages: {
        Args: {
          max?: number;
        };
        Returns: {
          id: string;
          purpose: string;
          email: string;
          code: string;
          expires_at: string;
          attempt: number;
        }[];
      };
      /** Hands out up to max notices to be sent, and keeps them from other workers for supabase_pat.outbox_lease. A notice says what happened to which token, who did it, and the present address and language of the user. Notices that no longer apply are left out. A notice that is neither confirmed nor returned is handed out again. For trusted roles. */
      claim_notices: {
        Args: {
          max?: number;
        };
        Returns: {
          id: number;
          kind: string;
          email: string;
          language: string;
          token_name: string;
          token_hint: string;
          is_rotation: boolean;
          others: number;
          actor: string;
          actor_token: string;
          found_at: string;
          happened_at: string;
          expires_at: string;
          attempt: number;
        }[];
      };
      /** For supabase_pat.service_account_manager: whether the caller has created that service account; for null, whether the request has a user. With it, each user manages the accounts that they have created. */
      created_service_account: {
        Args: {
          account: string;
        };
        Returns: boolean;
      };
      /** Header and payload of a token, unverified: anybody can have written them. Do not decide anything by them. */
      decode_jwt: {
        Args: {
          token: string;
        };
        Returns: Database['pat']['CompositeTypes']['decoded_jwt'];
      };
      /** Declares an attribute that tokens may have, such as the projects that they are for, or changes its declaration. schema: a JSON Schema that values must meet when a token is minted or edited, null for any. required: whether a token must have it. For trusted roles. */
      define_key_attribute: {
        Args: {
          name: string;
          schema?: Json;
          required?: boolean;
        };
        Returns: undefined;
      };
      /** Declares a setting that every user has, or changes its declaration. default_value: the value until a user sets one. schema: a JSON Schema that its values must meet, null for any. overridable: whether a request may override it in get_settings. Refused if the default, or a value that a user has stored, does not meet the schema. For trusted roles. */
      define_setting: {
        Args: {
          key: string;
          default_value: Json;
          schema?: Json;
          overridable?: boolean;
        };
        Returns: undefined;
      };
      /** Makes the gate refuse a JWT from the next request on, a leaked service_role key for instance, without a change of the secret that others are signed with. A personal access token is also revoked. The JWT is recognised by the part that is signed and by its claims, whichever role a server derives from them. reason: for pat.events and pat.denied_tokens, and for the owner of a personal access token, who sees it in api_key_events. Deleting the row in pat.denied_tokens accepts the token again. For trusted roles. */
      deny_token: {
        Args: {
          token: string;
          reason?: string;
        };
        Returns: undefined;
      };
      /** Removes an attribute, which new tokens then cannot have. Tokens that have it keep it. False if there is no such attribute. For trusted roles. */
      drop_key_attribute: {
        Args: {
          name: string;
        };
        Returns: boolean;
      };
      /** Removes a setting and the users' values of it. False if there is no such setting. For trusted roles. */
      drop_setting: {
        Args: {
          key: string;
        };
        Returns: boolean;
      };
      /** What a personal access token may touch: a row for the token itself, and one for each table, view and function of the statement, which is neither planned nor run, with the scope that it needs and whether scopes and privileges allow it. Without a statement: all tables and views of supabase_pat.default_schema. What policies read needs no scope and is not shown; which rows they let through is not checked. For trusted roles. */
      explain_access: {
        Args: {
          token: string;
          statement?: string;
        };
        Returns: {
          object: string;
          access: string;
          scope: string;
          granted: boolean;
          detail: string;
        }[];
      };
      /** For db-pre-request of PostgREST, where the library is not preloaded: refuses requests that should not run, before any query: 401 for tokens that are not valid, sessions that have ended and tokens that were denied; 403 for addresses and scopes; 429 for limits, 503 where they cannot be counted. Takes opaque tokens from the headers of supabase_pat.token_headers, and calls supabase_pat.next_pre_request for what it lets through. In connections of supabase_pat.guarded_logins the request has been judged already, and is neither judged nor counted again. */
      gate: {
        Args: Record<PropertyKey, never>;
        Returns: undefined;
      };
      /** Adds a private JSON Web Key (oct, EC P-256, RSA of 2048 bits or more, OKP Ed25519) as a signing key on standby and returns its kid. For trusted roles. */
      import_signing_key: {
        Args: {
          jwk: Json;
        };
        Returns: string;
      };
      /** Registers a token of another system, given by its SHA-256, as an opaque token of the user, and returns its id. name: as its user has chosen it; control characters are replaced, and what is too long is cut off. digest: in hexadecimal, base64 or base64url. expires_at: null for supabase_pat.default_lifetime from now on. The other arguments are as for mint_pat. Importing a token twice makes one token; for another user it is an error. For trusted roles. */
      import_token: {
        Args: {
          user_id: string;
          name: string;
          digest: string;
          scopes?: string[];
          expires_at?: string;
          created_at?: string;
          allowed_ips?: string[];
          rate_limit?: number;
          rate_window?: string;
        };
        Returns: string;
      };
      /** What a Supabase API key or token is, what is wrong with it and how to fix it, in plain words. Never raises an error and never repeats the key. */
      inspect_api_key: {
        Args: {
          key: string;
        };
        Returns: Database['pat']['CompositeTypes']['api_key_report'];
      };
      /** Whether the current role is a superuser or has the privileges of supabase_pat.service_role or of the extension's owner. */
      is_trusted: {
        Args: Record<PropertyKey, never>;
        Returns: boolean;
      };
      /** A token and its code, for a backend that sends the mail itself. For trusted roles. */
      issue_reset_code: {
        Args: {
          email: string;
        };
        Returns: Database['pat']['CompositeTypes']['issued_reset_code'];
      };
      /** The public signing keys that verify, as a JSON Web Key Set (RFC 7517). Shared secrets are not in it. */
      jwks: {
        Args: Record<PropertyKey, never>;
        Returns: Json;
      };
      /** How long it is to the expiry that the token gives itself, unverified; negative if it has passed, null if it gives none. */
      jwt_expires_in: {
        Args: {
          token: string;
        };
        Returns: string;
      };
      /** valid, expired, not_yet_valid, bad_signature, unknown_key, unsupported_algorithm, malformed or revoked: what pat.verify_jwt would find of a JWT, and for an opaque token what its row says. Never raises an error. */
      jwt_status: {
        Args: {
          token: string;
        };
        Returns: string;
      };
      /** For policies: whether the caller manages that service account, as the function in supabase_pat.service_account_manager decides; for a trusted role, whether it is a service account. */
      manages_service_account: {
        Args: {
          account: string;
        };
        Returns: boolean;
      };
      /** Returns a claimed message that could not be sent, for another try after a pause that grows to a minute. error: the reason, for last_error. False if there is no such message. For trusted roles. */
      message_failed: {
        Args: {
          id: string;
          error?: string;
        };
        Returns: boolean;
      };
      /** Confirms that a claimed message was sent, and deletes its content. False if there is no such message. For trusted roles. */
      message_sent: {
        Args: {
          id: string;
        };
        Returns: boolean;
      };
      /** Numbers for a monitoring system, by the conventions of Prometheus: name, kind (counter or gauge), what it means, labels and value. It costs the same however many tokens there are. For trusted roles and members of pg_monitor. */
      metrics: {
        Args: Record<PropertyKey, never>;
        Returns: {
          name: string;
          kind: string;
          help: string;
          labels: Json;
          value: number;
        }[];
      };
      /** A Supabase API key for the anonymous or the service role, signed as pat.sign_jwt does. ref: the project's, if it has one. For trusted roles. */
      mint_api_key: {
        Args: {
          role: string;
          ref?: string;
          expires_in?: string;
        };
        Returns: string;
      };
      /** Begins a session of a user, for tests and support, and writes an event. For trusted roles. */
      mint_session: {
        Args: {
          user_id: string;
        };
        Returns: Database['public']['CompositeTypes']['minted_session'];
      };
      /** Returns a claimed notice that could not be sent, for another try after a pause that grows to an hour. error: the reason, for last_error. False if there is no such notice. For trusted roles. */
      notice_failed: {
        Args: {
          id: number;
          error?: string;
        };
        Returns: boolean;
      };
      /** Confirms that a claimed notice was sent, and deletes its content. False if there is no such notice. For trusted roles. */
      notice_sent: {
        Args: {
          id: number;
        };
        Returns: boolean;
      };
      /** How many digits a code has that is issued now: supabase_pat.reset_code_length, or 16 after too many wrong codes, and where wrong codes cannot be counted because the library is not preloaded. The claim digits of a token says how many its own code has. */
      reset_code_digits: {
        Args: Record<PropertyKey, never>;
        Returns: number;
      };
      /** Revokes a signing key: from the next statement on it verifies nothing, and the personal access tokens minted with it are revoked. Refused for the current key. Publish the keys to the REST server again. For trusted roles. */
      revoke_signing_key: {
        Args: {
          kid: string;
        };
        Returns: undefined;
      };
      /** Makes a key that is on standby, or was current before, the current one, which signs from now on. The key that was current still verifies. For trusted roles. */
      rotate_signing_key: {
        Args: {
          kid: string;
        };
        Returns: undefined;
      };
      /** What is wrong with the configured JWT secret, or null. For pat.status(); for trusted roles. */
      secret_problem: {
        Args: Record<PropertyKey, never>;
        Returns: string;
      };
      /** For pat.status(): what only the server knows about itself. For trusted roles. */
      server_state: {
        Args: Record<PropertyKey, never>;
        Returns: Database['pat']['CompositeTypes']['server_state'];
      };
      /** What is wrong with service accounts, or null. For pat.status(); for trusted roles. */
      service_account_problem: {
        Args: Record<PropertyKey, never>;
        Returns: string;
      };
      /** As in pgjwt: signs the payload, as the text that it is, with a secret of your own. algorithm: HS256, HS384 or HS512. */
      sign: {
        Args: {
          payload: Json;
          secret: string;
          algorithm?: string;
        };
        Returns: string;
      };
      /** Signs claims with the current signing key, or else the configured JWT secret. Adds iat if it is missing, and exp if expires_in is given. For trusted roles. */
      sign_jwt: {
        Args: {
          claims: Json;
          expires_in?: string;
        };
        Returns: string;
      };
      /** Checks the installation: one row per check, whose detail says what is wrong and how to fix it. For trusted roles. */
      status: {
        Args: Record<PropertyKey, never>;
        Returns: {
          check: string;
          ok: boolean;
          detail: string;
        }[];
      };
      /** For the statement that stores a password hash. Null at any other time. */
      take_password_hash: {
        Args: Record<PropertyKey, never>;
        Returns: string;
      };
      /** The user of this request, as auth.uid() returns it, but computed once per statement instead of once per row. Null where auth.uid() would raise an error. */
      uid: {
        Args: Record<PropertyKey, never>;
        Returns: string;
      };
      /** As in pgjwt: the bytes of base64url or base64. */
      url_decode: {
        Args: {
          data: string;
        };
        Returns: string;
      };
      /** As in pgjwt: base64url without padding. */
      url_encode: {
        Args: {
          data: string;
        };
        Returns: string;
      };
      /** The tokens that made most requests in so many days up to last_day, or with order_by => 'refused' those of which most were refused: max_rows of them, 1000 at most, and none without any. The name is null if the token has been deleted. For trusted roles. */
      usage_by_token: {
        Args: {
          days?: number;
          last_day?: string;
          order_by?: string;
          max_rows?: number;
        };
        Returns: {
          key_id: string;
          user_id: string;
          name: string;
          requests: number;
          refused: number;
        }[];
      };
      /** The same for users, with the number of their tokens that had any. service_account is the name of one that is a service account. For trusted roles. */
      usage_by_user: {
        Args: {
          days?: number;
          last_day?: string;
          order_by?: string;
          max_rows?: number;
        };
        Returns: {
          user_id: string;
          service_account: string;
          tokens: number;
          requests: number;
          refused: number;
        }[];
      };
      /** How many requests all tokens together made on each day, how many were refused, and how many tokens had any: a row for each of so many days in UTC, 400 at most, up to last_day or the present one. For trusted roles. */
      usage_totals: {
        Args: {
          days?: number;
          last_day?: string;
        };
        Returns: {
          day: string;
          requests: number;
          refused: number;
          tokens: number;
        }[];
      };
      /** As in pgjwt: the header and payload of a token, and whether it is signed with the secret by the algorithm and the present time is within its nbf and exp. */
      verify: {
        Args: {
          token: string;
          secret: string;
          algorithm?: string;
        };
        Returns: {
          header: Json;
          payload: Json;
          valid: boolean;
        }[];
      };
      /** The claims of a token that is signed with a key of this database, has not expired and, if audience is given, is meant for it. A personal access token must also be live. require_exp: whether a token without an expiry is refused. Raises an error that says which check failed. For trusted roles. */
      verify_jwt: {
        Args: {
          token: string;
          audience?: string;
          require_exp?: boolean;
        };
        Returns: Json;
      };
    };
    Enums: { [_ in never]: never };
    CompositeTypes: {
      api_key_report: {
        expires_at: string | null;
        format: string | null;
        iss: string | null;
        issued_at: string | null;
        length: number | null;
        problems: string[] | null;
        ref: string | null;
        role: string | null;
        signature: string | null;
      };
      decoded_jwt: {
        header: Json | null;
        payload: Json | null;
      };
      issued_reset_code: {
        code: string | null;
        expires_at: string | null;
        token: string | null;
      };
      server_state: {
        flushed_at: string | null;
        has_debug_code: boolean | null;
        is_preloaded: boolean | null;
        last_request_at: string | null;
        lost: number | null;
        next_pre_request: string | null;
        next_problem: string | null;
        requests: number | null;
        signing_key: string | null;
        signing_problem: string | null;
        version: string | null;
        worker: number | null;
      };
      session_report: {
        aal: string | null;
        email: string | null;
        expires_at: string | null;
        expires_in: string | null;
        is_pat: boolean | null;
        issued_at: string | null;
        role: string | null;
        session_id: string | null;
        should_refresh: boolean | null;
        user_id: string | null;
      };
    };
  };
};
