-- What the extension is compared with: the same things as a user of Supabase writes them by hand.
create extension supabase_pat;
create extension supabase_pat_bench;
create extension pgcrypto;
select pat.install_auth_schema();

create schema hand;
grant usage on schema hand to authenticated;

create table hand.api_keys (like pat.api_keys including all);

create function hand.is_valid_api_token() returns boolean language plpgsql stable security definer as $$
declare
    claims jsonb := auth.jwt();
begin
    if claims ->> 'type' is distinct from 'personal_access_token' then
        return true;
    end if;
    return exists (select 1 from hand.api_keys where id = (claims ->> 'jti')::uuid and revoked_at is null);
end
$$;

create function hand.is_active_session() returns boolean language sql stable security definer as $$
    select exists (
        select from auth.sessions where id = (auth.jwt() ->> 'session_id')::uuid and user_id = auth.uid()
    )
$$;

-- For db-pre-request: turns away tokens that have been revoked.
create function hand.check_token() returns void language plpgsql stable security definer as $$
declare
    claims jsonb := auth.jwt();
begin
    if claims ->> 'type' = 'personal_access_token'
        and not exists (select 1 from hand.api_keys where id = (claims ->> 'jti')::uuid and revoked_at is null) then
        raise sqlstate 'PT401' using message = 'the token has been revoked';
    end if;
end
$$;

-- pgjwt's way of signing and verifying, in the shape that it has there.
create function hand.encode_part(part bytea) returns text language sql immutable as $$
    select translate(encode(part, 'base64'), E'+/=\n', '-_')
$$;
create function hand.decode_part(part text) returns bytea language sql immutable as $$
    select decode(rpad(translate(part, '-_', '+/'), (length(part) + 3) / 4 * 4, '='), 'base64')
$$;
create function hand.signature(signables text, secret text) returns text language sql immutable as $$
    select hand.encode_part(hmac(signables, secret, 'sha256'))
$$;
create function hand.sign(payload json, secret text) returns text language sql immutable as $$
    with signables as (
        select hand.encode_part(convert_to('{"alg":"HS256","typ":"JWT"}', 'utf8')) || '.'
            || hand.encode_part(convert_to(payload::text, 'utf8')) as data
    )
    select data || '.' || hand.signature(data, secret) from signables
$$;
create function hand.seconds(value text) returns float language plpgsql immutable as $$
begin
    return value::float;
exception when others then
    return null;
end
$$;
create function hand.verify(token text, secret text) returns table (header json, payload json, valid boolean)
language sql stable as $$
    select t.header, t.payload, t.is_signed
        and now() >= coalesce(to_timestamp(hand.seconds(t.payload ->> 'nbf')), '-infinity')
        and now() < coalesce(to_timestamp(hand.seconds(t.payload ->> 'exp')), 'infinity')
    from (
        select convert_from(hand.decode_part(parts[1]), 'utf8')::json as header,
            convert_from(hand.decode_part(parts[2]), 'utf8')::json as payload,
            parts[3] = hand.signature(parts[1] || '.' || parts[2], secret) as is_signed
        from regexp_split_to_array(token, '\.') parts
    ) t
$$;

create function hand.mint_pat(owner uuid, label text) returns text language plpgsql security definer as $$
declare
    key_id uuid := gen_random_uuid();
    expiry timestamptz := now() + interval '1 year';
begin
    if not exists (select 1 from auth.users where id = owner) then
        raise exception 'no such user';
    end if;
    insert into hand.api_keys (id, user_id, name, expires_at) values (key_id, owner, label, expiry);
    return hand.sign(json_build_object('aud', 'authenticated', 'role', 'authenticated', 'sub', owner,
        'iat', extract(epoch from now())::int, 'exp', extract(epoch from expiry)::int,
        'jti', key_id, 'type', 'personal_access_token'), current_setting('app.settings.jwt_secret'));
end
$$;

create function hand.claims(token text) returns jsonb language sql immutable as $$
    select convert_from(hand.decode_part(split_part(token, '.', 2)), 'utf8')::jsonb
$$;

-- Settings per user, without the check against schemas, which PL/pgSQL has nothing for.
create table hand.setting_definitions (like pat.setting_definitions including all);
create table hand.user_settings (like pat.user_settings including all);
create function hand.merge_patch(target jsonb, patch jsonb) returns jsonb language plpgsql immutable as $$
declare
    name text;
    value jsonb;
begin
    if jsonb_typeof(patch) <> 'object' then
        return patch;
    end if;
    if jsonb_typeof(target) is distinct from 'object' then
        target := '{}';
    end if;
    for name, value in select * from jsonb_each(patch) loop
        if value = 'null' then
            target := target - name;
        else
            target := target || jsonb_build_object(name, hand.merge_patch(target -> name, value));
        end if;
    end loop;
    return target;
end
$$;
create function hand.get_settings(overrides jsonb default '{}') returns jsonb language plpgsql stable security definer as $$
declare
    effective jsonb;
    own jsonb;
begin
    if exists (
        select from jsonb_object_keys(overrides) name
        where not exists (select from hand.setting_definitions where key = name and overridable)
    ) then
        raise exception 'no such setting';
    end if;
    select jsonb_object_agg(key, default_value) into effective from hand.setting_definitions;
    select settings into own from hand.user_settings where user_id = auth.uid();
    return hand.merge_patch(hand.merge_patch(effective, coalesce(own, '{}')), overrides);
end
$$;
