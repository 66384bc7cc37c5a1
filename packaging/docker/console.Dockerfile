# syntax=docker/dockerfile:1
# The console, served by nginx as static files. From the top of the sources:
#   docker build -f packaging/docker/console.Dockerfile -t supabase-pat-console .
#   docker run -p 127.0.0.1:8081:8080 -e API_URL=https://api.example.com -e ANON_KEY=eyJ… supabase-pat-console
# As in the other Dockerfile, digests make a build one of just what was looked at.
ARG NODE_TAG=22-bookworm-slim
ARG NODE_DIGEST=
ARG NGINX_TAG=stable-alpine
ARG NGINX_DIGEST=

FROM node:${NODE_TAG}${NODE_DIGEST} AS build
WORKDIR /src/console
COPY console/package.json console/package-lock.json ./
# The packages by the hashes in the lock file. None of their scripts runs.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY console/vite.config.js console/third_party.mjs ./
COPY scripts/licence_texts.mjs ../scripts/
COPY console/src src
COPY console/app app
RUN npm exec --offline -- vite build

# It runs as a user of its own, 101, and listens on 8080.
FROM nginxinc/nginx-unprivileged:${NGINX_TAG}${NGINX_DIGEST}
ENV CONSOLE_PAGE=/usr/share/nginx/html CONSOLE_CONFIG=/tmp/console CONSOLE_SERVER=/etc/nginx/conf.d/default.conf CONSOLE_LISTEN=8080
COPY --from=build /src/console/dist/page /usr/share/nginx/html
# Whatever is there is run before nginx starts, and stops the container if it fails.
COPY --chmod=755 packaging/docker/console.sh /docker-entrypoint.d/50-console.sh
# Does it take what it needs, and refuse what must not be published? Better to know now.
RUN set -eu; \
    CONSOLE_SERVER=/tmp/try.conf API_URL=https://api.example.com ANON_KEY=try /docker-entrypoint.d/50-console.sh; \
    grep -q "connect-src 'self' https://api.example.com;" /tmp/try.conf; \
    if CONSOLE_SERVER=/tmp/try.conf API_URL=https://api.example.com ANON_KEY=sb_secret_try /docker-entrypoint.d/50-console.sh; \
    then echo 'a secret key is published' >&2; exit 1; fi; \
    rm -r /tmp/try.conf /tmp/console
