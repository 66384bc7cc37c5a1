-- The answer is false for a malformed token and true without one. There is never an error, and never a
-- row of another user.
call tests.log_in('alice');
select tests.claims(token) as good, id as id from mint_pat(name => 'x') \gset
reset role;

create function tests.answers(claims text, sub text default '', type text default '', jti text default '',
    out valid boolean, out uid text, out rows bigint)
language plpgsql as $$
begin
    perform set_config('request.jwt.claims', claims, true);
    perform set_config('request.jwt.claim.sub', sub, true);
    perform set_config('request.jwt.claim.type', type, true);
    perform set_config('request.jwt.claim.jti', jti, true);
    perform set_config('role', 'authenticated', true);
    select is_valid_api_token(), left(pat.uid()::text, 8), (select count(*) from todos) into valid, uid, rows;
    perform set_config('role', 'none', true);
end
$$;

\set alice 11111111-1111-1111-1111-111111111111
\set bob 22222222-2222-2222-2222-222222222222

select what, a.* from (values
    ('a good token', :'good'::jsonb),
    ('a login', :'good'::jsonb - 'type' - 'jti'),
    ('a login with a jti', :'good'::jsonb - 'type'),
    ('an empty object', '{}'),
    ('anon', '{"role": "anon"}'),
    ('another type', :'good'::jsonb || '{"type": "access"}'),
    ('type null', :'good'::jsonb || '{"type": null}'),
    ('type a number', :'good'::jsonb || '{"type": 1}'),
    ('type an array', :'good'::jsonb || '{"type": ["personal_access_token"]}'),
    ('type an object', :'good'::jsonb || '{"type": {}}'),
    ('type true', :'good'::jsonb || '{"type": true}'),
    ('jti missing', :'good'::jsonb - 'jti'),
    ('jti null', :'good'::jsonb || '{"jti": null}'),
    ('jti a number', :'good'::jsonb || '{"jti": 1}'),
    ('jti an array', jsonb_set(:'good', '{jti}', jsonb_build_array(:'id'))),
    ('jti not a uuid', :'good'::jsonb || '{"jti": "x"}'),
    ('jti empty', :'good'::jsonb || '{"jti": ""}'),
    ('jti unknown', :'good'::jsonb || '{"jti": "99999999-9999-9999-9999-999999999999"}'),
    ('jti in capitals', jsonb_set(:'good', '{jti}', to_jsonb(upper(:'id')))),
    ('sub missing', :'good'::jsonb - 'sub'),
    ('sub null', :'good'::jsonb || '{"sub": null}'),
    ('sub a number', :'good'::jsonb || '{"sub": 1}'),
    ('sub an array', :'good'::jsonb || '{"sub": []}'),
    ('sub not a uuid', :'good'::jsonb || '{"sub": "x"}'),
    ('sub of another user', jsonb_set(:'good', '{sub}', to_jsonb(:'bob'::text))),
    ('scope a number', :'good'::jsonb || '{"scope": 1}'),
    ('a login, sub not a uuid', '{"sub": "x"}'),
    ('a login, sub a number', '{"sub": 1}')
) as claims (what, claims), lateral tests.answers(claims::text) a;

select what, a.* from (values
    ('not JSON', 'x'),
    ('half of it', left(:'good', 100)),
    ('an array', '[]'),
    ('null', 'null'),
    ('a string', '"x"'),
    ('only spaces', '  '),
    ('nothing', ''),
    ('twice', :'good' || :'good'),
    ('type twice', replace(:'good', '"type":', '"type": "access", "type":')),
    ('type twice, the other way', replace(:'good', '"personal_access_token"', '"personal_access_token", "type": "access"')),
    ('sub twice', replace(:'good', '"sub":', '"sub": "22222222-2222-2222-2222-222222222222", "sub":')),
    ('escaped names', replace(:'good', '"type"', '"t\u0079pe"')),
    ('NUL escaped in another claim', replace(:'good', '"iss"', '"x": "\u0000", "iss"')),
    ('100,000 brackets', replace(:'good', '"iss"', '"x": ' || repeat('[', 100000) || repeat(']', 100000) || ', "iss"'))
) as claims (what, claims), lateral tests.answers(claims) a;

-- The settings of old servers, where one of them says something else.
select what, a.* from (values
    ('all legacy', '', :'alice', 'personal_access_token', :'id'),
    ('both the same', :'good', :'alice', 'personal_access_token', :'id'),
    ('legacy user beside a token', :'good', :'bob', '', ''),
    ('legacy user the same', :'good', :'alice', '', ''),
    ('legacy type beside a login', (:'good'::jsonb - 'type' - 'jti')::text, '', 'personal_access_token', ''),
    ('legacy type and key beside a login', (:'good'::jsonb - 'type' - 'jti')::text, '', 'personal_access_token', :'id'),
    ('legacy type hides the token', :'good', '', 'access', ''),
    ('another legacy key', :'good', '', '', '99999999-9999-9999-9999-999999999999'),
    ('legacy login', '', :'alice', '', ''),
    ('legacy login, claims not JSON', 'x', :'alice', '', '')
) as claims (what, claims, sub, type, jti), lateral tests.answers(claims, sub, type, jti) a;

-- Back to nothing, as a pooled connection is between requests.
\c
begin;
select set_config('request.jwt.claims', :'good', true) = :'good' as alice, set_config('request.jwt.claim.sub', :'alice', true) = :'alice' as legacy;
select is_valid_api_token(), left(pat.uid()::text, 8) as uid;
commit;
select current_setting('request.jwt.claims') = '' and current_setting('request.jwt.claim.sub') = '' as empty, is_valid_api_token(), pat.uid();
