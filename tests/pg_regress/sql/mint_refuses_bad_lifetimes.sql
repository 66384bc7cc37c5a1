call tests.log_in('alice');
select * from tests.error($$select mint_pat(name => 'x', expires_in => '0')$$);
select * from tests.error($$select mint_pat(name => 'x', expires_in => '-1 second')$$);
select * from tests.error($$select mint_pat(name => 'x', expires_in => '-1 day 23 hours')$$);
select * from tests.error($$select mint_pat(name => 'x', expires_in => '999 milliseconds')$$);
select * from tests.error($$select mint_pat(name => 'x', expires_in => '-178000000 years')$$);
select * from tests.error($$select mint_pat(name => 'x', expires_in => '367 days')$$);
select * from tests.error($$select mint_pat(name => 'x', expires_in => '100 years')$$);
select * from tests.error($$select mint_pat(name => 'x', expires_in => '178000000 years')$$);
select * from tests.error($$select mint_pat(name => 'x', expires_in => '2147483647 days')$$);
select * from tests.error($$select mint_pat(name => 'x', expires_in => 'soon')$$);
select count(*) from api_keys;

-- These are accepted. A year is a year of the calendar, in a leap year too.
select expires_at > now() as later from mint_pat(name => 'x', expires_in => '1 second');
select expires_at = date_trunc('second', expires_at) as whole_second from mint_pat(name => 'x', expires_in => '1.5 seconds');
select expires_at > now() as later from mint_pat(name => 'x', expires_in => '1 year');
select expires_at > now() as later from mint_pat(name => 'x', expires_in => '365 days');
select expires_at > now() as later from mint_pat(name => 'x', expires_in => '12 months');

-- The limits are settings. A limit below the default shortens the default too.
reset role;
set supabase_pat.max_lifetime = '30d';
call tests.log_in('alice');
select mint_pat(name => 'x', expires_in => '31 days');
select expires_at - now() between '29 days' and '31 days' as a_month from mint_pat(name => 'x');
reset role;
set supabase_pat.default_lifetime = '1h';
call tests.log_in('alice');
select expires_at - now() between '59 minutes' and '61 minutes' as an_hour from mint_pat(name => 'x');
reset role;
set supabase_pat.max_lifetime = '90min';
call tests.log_in('alice');
select * from tests.error($$select mint_pat(name => 'x', expires_in => '2 hours')$$);
