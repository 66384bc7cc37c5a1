call tests.log_in('alice');
select * from tests.error($$select mint_pat()$$);
select * from tests.error($$select mint_pat(name => null)$$);
select * from tests.error($$select mint_pat(name => '')$$);
select * from tests.error($$select mint_pat(name => E' \t\n ')$$);
select * from tests.error($$select mint_pat(name => U&'\00A0\2003')$$);
select * from tests.error($$select mint_pat(name => repeat('x', 101))$$);
select * from tests.error($$select mint_pat(name => repeat(U&'\+01F511', 101))$$);
select * from tests.error($$select mint_pat(name => E'two\nlines')$$);
select * from tests.error($$select mint_pat(name => E'\x1b[31mred')$$);
-- Postgres itself refuses a NUL.
select * from tests.error($$select mint_pat(name => E'a\x00b')$$);
select count(*) from api_keys;

-- These names are accepted.
select name from mint_pat(name => 'O''Brien "quoted" \ $x$; drop table todos; --');
select name = U&'\+01F469\200D\+01F4BB \0645\0631\062D\0628\0627' as kept from mint_pat(name => U&'\+01F469\200D\+01F4BB \0645\0631\062D\0628\0627');
select length(name), octet_length(name) from mint_pat(name => repeat(U&'\+01F511', 100));
select name from mint_pat(name => ' surrounded ');
select count(*) from api_keys;

-- The limit is a setting.
reset role;
set supabase_pat.max_name_length = 5;
call tests.log_in('alice');
select name from mint_pat(name => 'abcde');
select * from tests.error($$select mint_pat(name => 'abcdef')$$);
