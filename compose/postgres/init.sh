#!/bin/sh
# Runs once, in an empty database server: a role and a database of extauthz's own, and a role that only reads for Grafana.
set -eu
psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 \
    --set extauthz="$(cat /run/secrets/extauthz-password)" --set grafana="$(cat /run/secrets/grafana-database-password)" <<'SQL'
CREATE ROLE extauthz LOGIN PASSWORD :'extauthz';
CREATE ROLE grafana LOGIN PASSWORD :'grafana' CONNECTION LIMIT 10;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '10s';
CREATE DATABASE extauthz OWNER extauthz;
SQL
