call tests.log_in('alice');
select id as id from mint_pat(name => 'office', allowed_ips => '{192.0.2.0/24,2001:db8::/32,198.51.100.7}') \gset
select allowed_ips from api_keys;
call tests.use_key(:'id');
create function pg_temp.from_address(forwarded_for text) returns text language plpgsql as $$
declare
    done record;
begin
    select * into done from tests.pass(headers => jsonb_build_object('x-forwarded-for', forwarded_for));
    return concat_ws(' ', done.code, done.error);
end
$$;
-- No proxy is trusted here, since any client could have written that header.
select pg_temp.from_address('192.0.2.1');
select code, error from tests.pass();

reset role;
set supabase_pat.trusted_proxies = 1;
call tests.use_key(:'id');
select header, pg_temp.from_address(header) from unnest(array['192.0.2.1', '192.0.2.255', '192.0.3.1', '2001:db8::1', '2001:db9::1', '198.51.100.7', '198.51.100.8',
    '::ffff:192.0.2.1', '192.0.2.1:5000', '203.0.113.9, 192.0.2.1', '192.0.2.1, 203.0.113.9', '192.0.2.1,', 'unknown', '']) header;
-- Behind two proxies, the last entry is the address of the first one, so the entry before it is used.
reset role;
set supabase_pat.trusted_proxies = 2;
call tests.use_key(:'id');
select header, pg_temp.from_address(header) from unnest(array['192.0.2.1, 10.0.0.1', '192.0.2.1, 203.0.113.9, 10.0.0.1', '203.0.113.9, 192.0.2.1, 10.0.0.1', '192.0.2.1']) header;

-- Rotating keeps the addresses. Such a token mints no others, since these would be valid from any address.
call tests.log_in('alice');
select id as rotated from rotate_pat(:'id') \gset
select allowed_ips from api_keys where is_active;
select id as minter from mint_pat(name => 'minter', scopes => '{tokens:write,*}', allowed_ips => '{192.0.2.1}') \gset
call tests.request('authenticated', jsonb_build_object('sub', '11111111-1111-1111-1111-111111111111', 'type', 'personal_access_token', 'jti', :'minter', 'scope', 'tokens:write *'));
begin;
select code from tests.pass('POST', '/rpc/mint_pat', '{"x-forwarded-for": "192.0.2.1, 10.0.0.1"}');
select code, error from tests.error($$select mint_pat(name => 'child', scopes => '{*}')$$);
select code from tests.error(format($$select rotate_pat(%L)$$, :'minter'));
commit;

-- Lists of networks that are refused.
call tests.log_in('alice');
select code, error from tests.error($$select mint_pat(name => 'x', allowed_ips => '{}')$$);
select code, error from tests.error($$select mint_pat(name => 'x', allowed_ips => '{null}')$$);
select code, error from tests.error($$select mint_pat(name => 'x', allowed_ips => '{192.0.2.1/24}')$$);
select code, error from tests.error($$select mint_pat(name => 'x', allowed_ips => array_fill('192.0.2.1/32'::cidr, array[65]))$$);
