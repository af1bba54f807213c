-- What `extauthz doctor` asks a database.

-- name: inspect_server
-- out: version, standby, read_only, superuser, at (its clock, Unix seconds)
SELECT current_setting('server_version') AS version,
       pg_is_in_recovery() AS standby,
       current_setting('transaction_read_only')::boolean AS read_only,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
       extract(epoch FROM clock_timestamp())::float8 AS at;

-- name: inspect_rights
-- in: tables and privileges (text[], pairs); out: each that the role lacks, on a table that is there
SELECT u.privilege || ' on ' || u.name AS lacking
FROM unnest(%(tables)s::text[], %(privileges)s::text[]) WITH ORDINALITY AS u (name, privilege, place)
WHERE to_regclass(u.name) IS NOT NULL AND NOT has_table_privilege(to_regclass(u.name), u.privilege)
ORDER BY u.place;

-- name: inspect_expiry
-- out: usable keys that end within 7 and within 30 days
SELECT count(*) FILTER (WHERE expires_at <= now() + interval '7 days') AS week, count(*) AS month
FROM api_keys
WHERE revoked_at IS NULL AND disabled_at IS NULL AND expires_at > now() AND expires_at <= now() + interval '30 days';
