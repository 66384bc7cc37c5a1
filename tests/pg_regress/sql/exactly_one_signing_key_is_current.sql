select pat.add_signing_key('HS256', kid => 'a'), pat.add_signing_key('HS256', kid => 'b'), pat.add_signing_key('HS256', kid => 'c');
-- No key is current until one is made so.
update pat.signing_keys set status = 'revoked' where kid = 'c';
delete from pat.signing_keys where kid = 'c';
select pat.rotate_signing_key('a');

-- From then on, not even the owner can make two current, or none.
select * from tests.error($$update pat.signing_keys set status = 'current'$$);
select * from tests.error($$update pat.signing_keys set status = 'previous'$$);
select * from tests.error($$delete from pat.signing_keys where kid = 'a'$$);
select code from tests.error($$update pat.signing_keys set status = 'gone' where kid = 'b'$$);
select kid, status from pat.signing_keys order by kid;

-- Without any keys, the configured secret signs again.
delete from pat.signing_keys;
select (pat.decode_jwt(pat.sign_jwt('{}'))).header;

-- Changes of the table by hand take effect at once too.
select pat.add_signing_key('HS256', kid => 'a'), pat.add_signing_key('HS256', kid => 'b');
select pat.rotate_signing_key('a');
select (pat.decode_jwt(pat.sign_jwt('{}'))).header ->> 'kid' as kid;
update pat.signing_keys set status = case kid when 'a' then 'previous' else 'current' end;
select (pat.decode_jwt(pat.sign_jwt('{}'))).header ->> 'kid' as kid;
delete from pat.signing_keys;
select (pat.decode_jwt(pat.sign_jwt('{}'))).header ->> 'kid' as kid;

-- A row from which no key can be read signs nothing, and the error says so.
select pat.sign_jwt('{}', '1 hour') as configured \gset
insert into pat.signing_keys (kid, status, algorithm) values ('broken', 'current', 'HS256');
select * from tests.error($$select pat.sign_jwt('{}')$$);
select pat.jwt_status(:'configured') as configured, pat.jwks();
insert into pat.private_keys values ('broken', '{"kty": "oct", "kid": "broken", "k": "c2hvcnQ"}');
select * from tests.error($$select pat.sign_jwt('{}')$$);
update pat.private_keys set jwk = '{"kty": "oct", "kid": "another", "k": "YS1zZWNyZXQtb2YtbXktb3duLXRoYXQtaXMtbG9uZy1lbm91Z2g"}';
select * from tests.error($$select pat.sign_jwt('{}')$$);
update pat.private_keys set jwk = '{"kty": "oct", "kid": "broken", "k": "YS1zZWNyZXQtb2YtbXktb3duLXRoYXQtaXMtbG9uZy1lbm91Z2g"}';
select (pat.decode_jwt(pat.sign_jwt('{}'))).header ->> 'kid' as kid;
