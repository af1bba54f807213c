-- What a check asks. Each answer carries `version`, the number of the read it came from (see core/changes.py).
-- Ids go in as uuid, so that indexes serve them; a text that is not an id goes in as null, and finds nothing.
-- Braces stand for a list with each column of limits in place of *.

-- name: schema_version
-- out: version_num, and the server's clock in Unix seconds
SELECT version_num, extract(epoch FROM clock_timestamp())::float8 AS clock FROM alembic_version;

-- name: find_keys
-- in: hashes (bytea[]); out: one row for each that is stored: the key with its own limits, and its organization as below
SELECT encode(k.hash, 'hex') AS hash,
       k.id::text AS id,
       k.organization_id::text AS organization_id,
       k.permissions::text AS permissions,
       extract(epoch FROM k.expires_at)::float8 AS expires_at,
       extract(epoch FROM k.revoked_at)::float8 AS revoked_at,
       extract(epoch FROM k.disabled_at)::float8 AS disabled_at,
       {k.* AS key_*},
       k.credits AS key_credits,
       o.status,
       p.name AS plan,
       p.id::text AS plan_id,
       {CASE WHEN o.overrides_until <= now() THEN p.* ELSE coalesce(o.*, p.*) END AS *},
       extract(epoch FROM o.overrides_until)::float8 AS overrides_until,
       {p.* AS plan_*},
       o.credits,
       o.limits AS limits_mode,
       o.timezone,
       o.anchor,
       o.timezone_before,
       to_char(o.last_day, 'YYYY-MM-DD') AS last_day,
       o.anchor_before,
       to_char(o.next_month, 'YYYY-MM-DD') AS next_month,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS version
FROM api_keys k
JOIN organizations o ON o.id = k.organization_id
JOIN plans p ON p.id = o.plan_id
WHERE k.hash = ANY (%(hashes)s);

-- name: find_tenants
-- in: ids (uuid[]); out: one row for each that is stored: status, plan, limits and calendar
SELECT o.id::text AS id,
       o.status,
       p.name AS plan,
       p.id::text AS plan_id,
       {CASE WHEN o.overrides_until <= now() THEN p.* ELSE coalesce(o.*, p.*) END AS *},
       extract(epoch FROM o.overrides_until)::float8 AS overrides_until,
       {p.* AS plan_*},
       o.credits,
       o.limits AS limits_mode,
       o.timezone,
       o.anchor,
       o.timezone_before,
       to_char(o.last_day, 'YYYY-MM-DD') AS last_day,
       o.anchor_before,
       to_char(o.next_month, 'YYYY-MM-DD') AS next_month,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS version
FROM organizations o
JOIN plans p ON p.id = o.plan_id
WHERE o.id = ANY (%(ids)s);

-- name: keys_used
-- in: ids (uuid[]), times (float8[], Unix seconds); out: the keys that another transaction holds at this moment. They are not
-- waited for: an operator's open transaction must not look like a database that hangs.
WITH used AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(times)s::float8[]) AS u (id, at)
), free AS (
    SELECT k.id FROM api_keys k JOIN used u ON u.id = k.id ORDER BY k.id FOR NO KEY UPDATE OF k SKIP LOCKED
), noted AS (
    UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, to_timestamp(u.at))
    FROM used u, free f WHERE k.id = u.id AND k.id = f.id
)
SELECT k.id::text AS id FROM api_keys k JOIN used u ON u.id = k.id WHERE k.id NOT IN (SELECT id FROM free);

-- name: be_patient
-- in: milliseconds for each statement of this transaction, which no check waits for
SELECT set_config('statement_timeout', %(milliseconds)s::text, true);

-- name: changed_lately
-- in: seconds, at_most; out: kind and id of what was changed or deleted in that time, and the fence of each change, as
-- its message said it. Triggers write every change down; a number that no transaction has had yet is not from them.
SELECT kind, subject_id AS id,
       least(xact, pg_snapshot_xmax(pg_current_snapshot()))::text::bigint + 1 AS fence
FROM audit_log
WHERE at > now() - make_interval(secs => %(seconds)s)
LIMIT %(at_most)s;
