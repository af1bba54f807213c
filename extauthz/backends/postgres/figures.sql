-- Figures of the service, read again and again by one process: counts, and names of a few organizations.

-- name: key_figures
-- out: of the usable keys of each pepper_id: keys, and those that end within 7 and 30 days
SELECT pepper_id,
       count(*) AS keys,
       count(*) FILTER (WHERE expires_at <= now() + interval '7 days') AS expiring_7d,
       count(*) FILTER (WHERE expires_at <= now() + interval '30 days') AS expiring_30d
FROM api_keys
WHERE revoked_at IS NULL AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > now())
GROUP BY pepper_id;

-- name: backlog_figures
-- in: days; out: how many events claim_events would return now or later, and the age of the oldest in seconds
SELECT count(*) AS backlog, coalesce(extract(epoch FROM now() - min(at)), 0)::float8 AS oldest_seconds
FROM quota_events
WHERE delivered_at IS NULL AND failed_at IS NULL
  AND (next_attempt_at IS NOT NULL OR at > now() - make_interval(days => %(days)s));

-- name: audit_figures
-- out: number of the last row of the audit log
SELECT coalesce(max(id), 0) AS rows FROM audit_log;

-- name: organization_names
-- in: ids (uuid[]); out: id and name of those that are there
SELECT id::text, name FROM organizations WHERE id = ANY (%(ids)s);

-- name: change_age
-- in: xact; out: seconds since a change of that transaction, by the server's clock, where it was a moment ago
SELECT extract(epoch FROM clock_timestamp() - at)::float8 AS seconds
FROM audit_log
WHERE at > now() - interval '1 minute' AND xact = %(xact)s::text::xid8
ORDER BY id DESC
LIMIT 1;
