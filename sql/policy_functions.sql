-- Two functions without pgrx's wrapper: see src/pg/policy.rs.
create function public.is_valid_api_token() returns boolean
    language c stable parallel safe
    as 'MODULE_PATHNAME', 'supabase_pat_is_valid_api_token';

create function pat.uid() returns uuid
    language c stable parallel safe
    as 'MODULE_PATHNAME', 'supabase_pat_uid';
