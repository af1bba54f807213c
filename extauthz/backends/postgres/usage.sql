-- What was counted, and its events. Ids of another form than uuid never come here.
-- Rows are written in the order of the primary key, so that two writers wait for each other and never in a circle.

-- name: one_saver
-- out: mine. Where it is true no other worker saves until the end of the transaction.
SELECT pg_try_advisory_xact_lock(hashtextextended('extauthz usage', 0)) AS mine;

-- name: save_counted
-- in: tenants, keys (uuid[]), days (date[]), allowed, cost, revisions (bigint[]). A row goes forward, never back.
INSERT INTO usage_daily AS u (organization_id, day, api_key_id, allowed, cost, revision)
SELECT DISTINCT ON (tenant, day, key) tenant, day, key, allowed, cost, revision
FROM unnest(%(tenants)s::uuid[], %(keys)s::uuid[], %(days)s::date[], %(allowed)s::bigint[], %(cost)s::bigint[],
            %(revisions)s::bigint[]) AS c (tenant, key, day, allowed, cost, revision)
ORDER BY tenant, day, key, revision DESC
ON CONFLICT (organization_id, day, api_key_id) DO UPDATE
SET allowed = excluded.allowed, cost = excluded.cost, revision = excluded.revision
WHERE u.revision < excluded.revision;

-- name: save_credits
-- in: tenants, keys (uuid[]; the id of no key: of an organization's own), used (bigint[]). A row goes forward, never back.
INSERT INTO credits_used AS c (organization_id, api_key_id, used)
SELECT tenant, key, max(used)
FROM unnest(%(tenants)s::uuid[], %(keys)s::uuid[], %(used)s::bigint[]) AS u (tenant, key, used)
GROUP BY tenant, key
ORDER BY tenant, key
ON CONFLICT (organization_id, api_key_id) DO UPDATE
SET used = excluded.used
WHERE c.used < excluded.used;

-- name: new_batch
-- in: id; out: id, where no such batch was added yet. One that is being added is waited for.
INSERT INTO usage_batches (id) VALUES (%(id)s) ON CONFLICT DO NOTHING RETURNING id;

-- name: add_refusals
-- in: tenants, keys (uuid[]), days (date[]), rate_limited, over_quota (bigint[])
INSERT INTO usage_daily AS u (organization_id, day, api_key_id, rate_limited, over_quota)
SELECT tenant, day, key, sum(rate_limited)::bigint, sum(over_quota)::bigint
FROM unnest(%(tenants)s::uuid[], %(keys)s::uuid[], %(days)s::date[], %(rate_limited)s::bigint[],
            %(over_quota)s::bigint[]) AS r (tenant, key, day, rate_limited, over_quota)
GROUP BY tenant, day, key
ORDER BY tenant, day, key
ON CONFLICT (organization_id, day, api_key_id) DO UPDATE
SET rate_limited = u.rate_limited + excluded.rate_limited, over_quota = u.over_quota + excluded.over_quota;

-- name: forget_batches
-- in: hours, at_most; deletes batches that are older, without those that another transaction deletes at this moment
DELETE FROM usage_batches WHERE id IN (
    SELECT id FROM usage_batches WHERE at < now() - make_interval(hours => %(hours)s)
    LIMIT %(at_most)s FOR UPDATE SKIP LOCKED
);

-- name: seeds
-- in: tenants (text[]), ids (uuid[]), fields (text[]), firsts, afters (date[]): one span each; out: what is known of it
-- by key, in the order of core.usage.Seed; of each tenant what is used of credits, in the field `credits`
SELECT s.tenant AS tenant_id, s.field, u.api_key_id::text AS key_id, sum(u.cost)::bigint AS cost,
       sum(u.allowed)::bigint AS allowed, max(u.revision) AS revision
FROM unnest(%(tenants)s::text[], %(ids)s::uuid[], %(fields)s::text[], %(firsts)s::date[], %(afters)s::date[])
         AS s (tenant, id, field, first, after)
JOIN usage_daily u ON u.organization_id = s.id AND u.day >= s.first AND u.day < s.after AND u.revision > 0
GROUP BY s.tenant, s.field, u.api_key_id
UNION ALL
SELECT s.tenant, 'credits', coalesce(nullif(c.api_key_id::text, '00000000-0000-0000-0000-000000000000'), ''), c.used, 0, 0
FROM (SELECT DISTINCT tenant, id FROM unnest(%(tenants)s::text[], %(ids)s::uuid[]) AS asked (tenant, id)) AS s
JOIN credits_used c ON c.organization_id = s.id;

-- name: usage_of_period
-- in: id, first, last, by_key, apart (date[]); out: what was used from `first` to `last`, by key or else by day, but on the
-- days `apart` by key and day, in the order of core.usage_report.Figures
SELECT CASE WHEN NOT %(by_key)s::boolean OR day = ANY(%(apart)s::date[]) THEN day END AS day,
       CASE WHEN %(by_key)s::boolean OR day = ANY(%(apart)s::date[]) THEN api_key_id END AS key_id,
       sum(allowed)::bigint AS allowed, sum(cost)::bigint AS cost, sum(rate_limited)::bigint AS rate_limited,
       sum(over_quota)::bigint AS over_quota, max(revision) AS revision
FROM usage_daily
WHERE organization_id = %(id)s AND day BETWEEN %(first)s AND %(last)s
GROUP BY 1, 2;

-- name: key_names
-- in: ids (uuid[]); out: the names of those that are there
SELECT id::text AS key_id, name FROM api_keys WHERE id = ANY(%(ids)s::uuid[]);

-- name: usage_totals
-- in: id, fields (text[]), firsts, afters (date[]): one span each; out: its cost
SELECT s.field, coalesce(sum(u.cost), 0)::bigint AS cost
FROM unnest(%(fields)s::text[], %(firsts)s::date[], %(afters)s::date[]) AS s (field, first, after)
LEFT JOIN usage_daily u ON u.organization_id = %(id)s AND u.day >= s.first AND u.day < s.after
GROUP BY s.field;

-- name: announce
-- in: tenants (uuid[]), quotas (text[]), windows (date[]), thresholds (smallint[]), used, limits (bigint[]); out: those
-- that are new
INSERT INTO quota_events (organization_id, quota, window_start, threshold, used, "limit")
SELECT tenant, quota, first, threshold, used, most
FROM unnest(%(tenants)s::uuid[], %(quotas)s::text[], %(windows)s::date[], %(thresholds)s::smallint[],
            %(used)s::bigint[], %(limits)s::bigint[]) AS e (tenant, quota, first, threshold, used, most)
ORDER BY tenant, quota, first, threshold
ON CONFLICT DO NOTHING
RETURNING organization_id::text AS tenant_id, quota, window_start, threshold, used, "limit";

-- name: claim_events
-- in: days, at_most, seconds; out: events that no other worker has at this moment, oldest first, of those that were never
-- tried only what is not older than so many days. They are the caller's for so many seconds, then due again.
WITH due AS (
    SELECT id FROM quota_events
    WHERE delivered_at IS NULL AND failed_at IS NULL
      AND (next_attempt_at <= now() OR next_attempt_at IS NULL AND at > now() - make_interval(days => %(days)s))
    ORDER BY at, threshold, id
    LIMIT %(at_most)s
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE quota_events e
    SET attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => %(seconds)s)
    FROM due WHERE e.id = due.id
    RETURNING e.*
)
SELECT c.id::text, c.at, c.organization_id::text, o.name AS organization, c.quota, c.window_start, c.threshold, c.used,
       c."limit", c.attempts
FROM claimed c LEFT JOIN organizations o ON o.id = c.organization_id
ORDER BY c.at, c.threshold, c.id;

-- name: event_delivered
-- in: id
UPDATE quota_events SET delivered_at = coalesce(delivered_at, now()), next_attempt_at = NULL WHERE id = %(id)s;

-- name: event_postponed
-- in: id, seconds. What another worker has delivered meanwhile stays delivered.
UPDATE quota_events SET next_attempt_at = now() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND delivered_at IS NULL AND failed_at IS NULL;

-- name: event_given_up
-- in: id
UPDATE quota_events SET failed_at = now(), next_attempt_at = NULL
WHERE id = %(id)s AND delivered_at IS NULL AND failed_at IS NULL;
