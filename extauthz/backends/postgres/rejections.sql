-- Refusals that are kept. Rows are written in the order of their ids, so that two writers never wait in a circle.

-- name: add_rejections
-- in: ids, organizations, keys (uuid[]), sinces (timestamptz[]), addresses, routes, decisions, reasons (text[]), counts
-- (bigint[]), samples (jsonb[]), most. A row that is there is added to, and keeps the `most` latest samples.
INSERT INTO rejections AS r (id, since, organization_id, api_key_id, address, route, decision, reason, count, samples)
SELECT id, since, organization, key, address, route, decision, reason, count, samples
FROM unnest(%(ids)s::uuid[], %(sinces)s::timestamptz[], %(organizations)s::uuid[], %(keys)s::uuid[],
            %(addresses)s::text[], %(routes)s::text[], %(decisions)s::text[], %(reasons)s::text[],
            %(counts)s::bigint[], %(samples)s::jsonb[])
         AS n (id, since, organization, key, address, route, decision, reason, count, samples)
ORDER BY id
ON CONFLICT (id) DO UPDATE
SET count = r.count + excluded.count,
    samples = (
        SELECT coalesce(jsonb_agg(sample ORDER BY sample ->> 'at'), '[]')
        FROM (SELECT sample FROM jsonb_array_elements(r.samples || excluded.samples) AS both_ (sample)
              ORDER BY sample ->> 'at' DESC LIMIT %(most)s) AS latest
    );

-- name: forget_rejections
-- in: days, at_most; deletes what is older, without rows that another transaction deletes at this moment; out: how many rows
WITH gone AS (
    DELETE FROM rejections WHERE id IN (
        SELECT id FROM rejections WHERE since < now() - make_interval(days => %(days)s)
        LIMIT %(at_most)s FOR UPDATE SKIP LOCKED
    )
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: page_of_rejections
-- in: organization_id (null: rows of no known organization), since, until, key_id, decision, route (null: any), at, id
-- (null: from the newest), at_most; out: rows older than that, newest first
SELECT r.id, r.since AS created_at, r.organization_id::text, r.api_key_id::text, key.name AS api_key_name, r.address,
       r.route, r.decision, r.reason, r.count, r.samples
FROM rejections r
LEFT JOIN api_keys key ON key.id = r.api_key_id
WHERE (r.organization_id = %(organization_id)s::uuid
       OR (%(organization_id)s::uuid IS NULL AND r.organization_id IS NULL)) -- the index serves both
  AND (%(since)s::timestamptz IS NULL OR r.since >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR r.since < %(until)s)
  AND (%(key_id)s::uuid IS NULL OR r.api_key_id = %(key_id)s)
  AND (%(decision)s::text IS NULL OR r.decision = %(decision)s)
  AND (%(route)s::text IS NULL OR r.route = %(route)s)
  AND (%(at)s::timestamptz IS NULL OR (r.since, r.id) < (%(at)s, %(id)s::uuid))
ORDER BY r.since DESC, r.id DESC
LIMIT %(at_most)s;
