-- Two functions without pgrx's wrapper: see src/request/policy.rs. Their costs make the planner compare
-- user ids first and ask about the token only for the rows that are left.
create function pat.uid() returns uuid
    language c stable parallel safe cost 1
    as 'MODULE_PATHNAME', 'supabase_pat_uid';

create function public.is_valid_api_token() returns boolean
    language c stable parallel safe cost 3
    as 'MODULE_PATHNAME', 'supabase_pat_is_valid_api_token';
