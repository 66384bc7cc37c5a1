#!/bin/sh
# Writes what the console is told, and how nginx serves it, from the environment: API_URL and ANON_KEY, and if they are
# given TITLE and HAS_OPERATOR. What is wrong stops it, since all of it goes to every visitor.
set -eu

fail() {
    echo "console: $1" >&2
    exit 1
}

url=${API_URL:-}
key=${ANON_KEY:-}
title=${TITLE:-supabase_pat}
has_operator=${HAS_OPERATOR:-false}

origin=$(printf '%s\n' "$url" | sed -n 's#^\(https\{0,1\}://[A-Za-z0-9.:-]\{1,\}\)\(/[A-Za-z0-9._~/-]*\)\{0,1\}$#\1#p')
[ "$(printf '%s' "$url" | wc -l)" -eq 0 ] && [ -n "$origin" ] ||
    fail "API_URL has to be the address of the API, as browsers reach it, such as https://api.example.com"
case $key in
    '') fail "ANON_KEY is missing: the key of the role anon, or a publishable one" ;;
    *[!A-Za-z0-9._-]*) fail "ANON_KEY is no key: it has other characters than keys have" ;;
    sb_secret_*) fail "ANON_KEY is a secret key. Everybody who opens the page would have it" ;;
    sbp_* | sbpat_*) fail "ANON_KEY is somebody's access token. Everybody who opens the page would have it" ;;
esac
# A JWT says which role it is for, and whose it is. Escapes could hide that, and no key has them.
claims=$(printf '%s' "$key" | cut -s -d . -f 2 | tr '_-' '/+' | base64 -d 2> /dev/null | tr -d '\000' || true)
case $claims in
    *service_role* | *supabase_admin* | *\"postgres\"* | *\\u*)
        fail "ANON_KEY is a key of the service role. Everybody who opens the page would have it" ;;
    *\"sub\"*) fail "ANON_KEY is somebody's login or access token. Everybody who opens the page would have it" ;;
esac
case $title in
    *[\"\\]* | *[[:cntrl:]]*) fail "TITLE has a quotation mark, a backslash or a control character" ;;
esac
case $has_operator in
    true | false) ;;
    *) fail "HAS_OPERATOR has to be true or false" ;;
esac

mkdir -p "$CONSOLE_CONFIG"
printf '{"url": "%s", "anonKey": "%s", "title": "%s", "hasOperator": %s}\n' "$url" "$key" "$title" "$has_operator" \
    > "$CONSOLE_CONFIG/config.json"
# The names of what is in assets change with the content. What is not there may come.
cat > "$CONSOLE_SERVER" << END
map \$status\$uri \$console_cache {
    default no-cache;
    ~^(200|206|304)/assets/ "public, max-age=31536000, immutable";
}

server {
    listen $CONSOLE_LISTEN;
    server_tokens off;
    absolute_redirect off;
    root $CONSOLE_PAGE;
    charset utf-8;
    add_header Content-Security-Policy "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' $origin; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types lit-html" always;
    add_header X-Content-Type-Options nosniff always;
    add_header Referrer-Policy no-referrer always;
    add_header Cross-Origin-Opener-Policy same-origin always;
    add_header Cache-Control \$console_cache always;

    location = /config.json {
        root $CONSOLE_CONFIG;
    }
}
END
