-- Every statement that runs against our tables. A name, what goes in as %(name)s, what comes out.
-- Ids go in as uuid, so that indexes serve them; a text that is no id goes in as null, and finds nothing.

-- name: schema_version
-- out: version_num
SELECT version_num FROM alembic_version;

-- name: find_key
-- in: hashes (bytea[], the signing pepper's first); out: one row of the record of a key with its organization
SELECT encode(k.hash, 'hex') AS digest,
       k.id::text AS id,
       k.organization_id::text AS organization_id,
       k.permissions,
       extract(epoch FROM k.expires_at)::float8 AS expires_at,
       extract(epoch FROM k.revoked_at)::float8 AS revoked_at,
       extract(epoch FROM k.disabled_at)::float8 AS disabled_at,
       o.status,
       p.name AS plan,
       coalesce(o.rate, p.rate) AS rate,
       coalesce(o.burst, p.burst) AS burst,
       coalesce(o.daily_quota, p.daily_quota) AS daily_quota,
       coalesce(o.monthly_quota, p.monthly_quota) AS monthly_quota
FROM api_keys k
JOIN organizations o ON o.id = k.organization_id
JOIN plans p ON p.id = o.plan_id
WHERE k.hash = ANY (%(hashes)s)
ORDER BY array_position(%(hashes)s, k.hash)
LIMIT 1;

-- name: find_tenant
-- in: id; out: status, plan and effective limits of one organization
SELECT o.id::text AS id,
       o.status,
       p.name AS plan,
       coalesce(o.rate, p.rate) AS rate,
       coalesce(o.burst, p.burst) AS burst,
       coalesce(o.daily_quota, p.daily_quota) AS daily_quota,
       coalesce(o.monthly_quota, p.monthly_quota) AS monthly_quota
FROM organizations o
JOIN plans p ON p.id = o.plan_id
WHERE o.id = %(id)s;

-- name: create_key
-- in: organization_id, name, hash, pepper_id, handle, permissions, expires_at; out: the key
INSERT INTO api_keys (organization_id, name, hash, pepper_id, handle, permissions, expires_at)
VALUES (%(organization_id)s, %(name)s, %(hash)s, %(pepper_id)s, %(handle)s, %(permissions)s, %(expires_at)s)
RETURNING id::text, organization_id::text, name, handle, permissions, created_at, expires_at, revoked_at, disabled_at,
          last_used_at;

-- name: list_keys
-- in: organization_id; out: its keys, newest first
SELECT id::text, organization_id::text, name, handle, permissions, created_at, expires_at, revoked_at, disabled_at,
       last_used_at
FROM api_keys
WHERE organization_id = %(organization_id)s
ORDER BY created_at DESC, id DESC;

-- name: show_key
-- in: id; out: the key
SELECT id::text, organization_id::text, name, handle, permissions, created_at, expires_at, revoked_at, disabled_at,
       last_used_at
FROM api_keys
WHERE id = %(id)s;

-- name: revoke_key
-- in: id; out: the key with its digest. A key that was revoked stays revoked at its first time.
UPDATE api_keys
SET revoked_at = coalesce(revoked_at, now())
WHERE id = %(id)s
RETURNING id::text, organization_id::text, name, handle, permissions, created_at, expires_at, revoked_at, disabled_at,
          last_used_at, encode(hash, 'hex') AS digest;

-- name: count_usable_keys
-- in: organization_id, besides (a key's id, or null); out: usable, and others: those of them besides that key
SELECT count(*) AS usable, count(*) FILTER (WHERE id IS DISTINCT FROM %(besides)s) AS others
FROM api_keys
WHERE organization_id = %(organization_id)s
  AND revoked_at IS NULL AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: lock_organization
-- in: id; out: id. Two changes that look at all keys of an organization come one after the other.
SELECT id::text FROM organizations WHERE id = %(id)s FOR UPDATE;

-- name: create_plan
-- in: name, rate, burst, daily_quota, monthly_quota; out: the plan
INSERT INTO plans (name, rate, burst, daily_quota, monthly_quota)
VALUES (%(name)s, %(rate)s, %(burst)s, %(daily_quota)s, %(monthly_quota)s)
RETURNING id::text, name, rate, burst, daily_quota, monthly_quota, created_at;

-- name: list_plans
-- out: all plans by name
SELECT id::text, name, rate, burst, daily_quota, monthly_quota, created_at FROM plans ORDER BY name;

-- name: show_plan
-- in: name; out: the plan
SELECT id::text, name, rate, burst, daily_quota, monthly_quota, created_at FROM plans WHERE name = %(name)s;

-- name: update_plan
-- in: name and every limit as it shall be; out: the plan
UPDATE plans
SET rate = %(rate)s, burst = %(burst)s, daily_quota = %(daily_quota)s, monthly_quota = %(monthly_quota)s
WHERE name = %(name)s
RETURNING id::text, name, rate, burst, daily_quota, monthly_quota, created_at;

-- name: delete_plan
-- in: name; out: its id
DELETE FROM plans WHERE name = %(name)s RETURNING id::text;

-- name: tenants_of_plan
-- in: name; out: id of every organization of that plan
SELECT o.id::text FROM organizations o JOIN plans p ON p.id = o.plan_id WHERE p.name = %(name)s;

-- name: create_organization
-- in: name, plan (a name); out: its id, or nothing where there is no such plan
INSERT INTO organizations (name, plan_id)
SELECT %(name)s, p.id FROM plans p WHERE p.name = %(plan)s
RETURNING id::text;

-- name: list_organizations
-- out: all organizations by name, with their own limits where they override the plan's
SELECT o.id::text, o.name, p.name AS plan, o.status, o.rate, o.burst, o.daily_quota, o.monthly_quota, o.created_at
FROM organizations o JOIN plans p ON p.id = o.plan_id
ORDER BY o.name;

-- name: show_organization
-- in: id (or null), ref (a name, where it is none); out: the organization
SELECT o.id::text, o.name, p.name AS plan, o.status, o.rate, o.burst, o.daily_quota, o.monthly_quota, o.created_at
FROM organizations o JOIN plans p ON p.id = o.plan_id
WHERE o.id = %(id)s OR o.name = %(ref)s;

-- name: update_organization
-- in: id, plan (a name), status and every override as it shall be; out: its id, or nothing where there is no such plan
UPDATE organizations o
SET plan_id = p.id, status = %(status)s,
    rate = %(rate)s, burst = %(burst)s, daily_quota = %(daily_quota)s, monthly_quota = %(monthly_quota)s
FROM plans p
WHERE o.id = %(id)s AND p.name = %(plan)s
RETURNING o.id::text;

-- name: delete_organization
-- in: id; out: the digests of the keys that went with it
WITH gone AS (
    SELECT encode(hash, 'hex') AS digest FROM api_keys WHERE organization_id = %(id)s
), deleted AS (
    DELETE FROM organizations WHERE id = %(id)s RETURNING id
)
SELECT gone.digest FROM gone, deleted;
