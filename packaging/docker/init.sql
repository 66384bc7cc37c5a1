create extension if not exists supabase_pat;
