#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| supabase_pat_fuzz::rate_headers(data));
