-- Every statement that management runs. A name, what goes in as %(name)s, what comes out. Braces stand for a list with
-- each column of limits in place of *.
-- Ids go in as uuid, so that indexes serve them; a text that is not an id goes in as null, and finds nothing.

-- name: act
-- in: actor, action (empty: what the change itself says), reason (or empty). For the transaction under way: the author of
-- changes, what they mean and why they are made.
SELECT set_config('extauthz.actor', %(actor)s, true), set_config('extauthz.action', %(action)s, true),
       set_config('extauthz.reason', %(reason)s, true);

-- name: horizon
-- out: horizon, a fence above every change that is committed by now (see core/changes.py)
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS horizon;

-- name: one_import
-- Waits until no other import is under way: whether a key is there under another pepper is seen only once it is committed.
SELECT pg_advisory_xact_lock(hashtextextended('extauthz import', 0));

-- name: create_key
-- in: organization_id, hash, pepper_id, handle and the terms; out: the key
INSERT INTO api_keys (organization_id, name, hash, pepper_id, handle, permissions, expires_at, metadata,
                      {*})
VALUES (%(organization_id)s, %(name)s, %(hash)s, %(pepper_id)s, %(handle)s, %(permissions)s, %(expires_at)s, %(metadata)s,
        {%(*)s})
RETURNING id::text, organization_id::text, name, handle, permissions, metadata, {*},
          pepper_id, created_at, updated_at, expires_at, revoked_at, disabled_at, last_used_at, rotated_to::text, row_version;

-- name: known_hashes
-- in: hashes (bytea[]); out: those that are a key's or were one's: digest, and of a key that is there id,
-- organization_id, pepper_id, status (revoked, disabled, expired, active), permissions, expires_at
SELECT encode(hash, 'hex') AS digest, id::text, organization_id::text, pepper_id,
       CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN disabled_at IS NOT NULL THEN 'disabled'
            WHEN expires_at <= now() THEN 'expired' ELSE 'active' END AS status, permissions, expires_at
FROM api_keys WHERE hash = ANY (%(hashes)s)
UNION ALL
SELECT encode(hash, 'hex'), null, null, null, 'revoked', null, null FROM retired_hashes WHERE hash = ANY (%(hashes)s);

-- name: list_keys
-- in: organization_id; out: its keys, newest first
SELECT id::text, organization_id::text, name, handle, permissions, metadata, {*},
       pepper_id, created_at, updated_at, expires_at, revoked_at, disabled_at, last_used_at, rotated_to::text, row_version
FROM api_keys
WHERE organization_id = %(organization_id)s
ORDER BY created_at DESC, id DESC;

-- name: page_of_keys
-- in: organization_id (null: all), at, id (null: from the newest), at_most; out: keys older than that, newest first
SELECT id::text, organization_id::text, name, handle, permissions, metadata, {*},
       pepper_id, created_at, updated_at, expires_at, revoked_at, disabled_at, last_used_at, rotated_to::text, row_version
FROM api_keys
WHERE (%(organization_id)s::uuid IS NULL OR organization_id = %(organization_id)s)
  AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(id)s))
ORDER BY created_at DESC, id DESC
LIMIT %(at_most)s;

-- name: show_key
-- in: id; out: the key
SELECT id::text, organization_id::text, name, handle, permissions, metadata, {*},
       pepper_id, created_at, updated_at, expires_at, revoked_at, disabled_at, last_used_at, rotated_to::text, row_version
FROM api_keys
WHERE id = %(id)s;

-- name: name_key
-- in: id; out: what a key is stored under and what it and its organization are called
SELECT encode(k.hash, 'hex') AS digest, k.pepper_id, k.name, k.handle, o.name AS organization
FROM api_keys k JOIN organizations o ON o.id = k.organization_id
WHERE k.id = %(id)s;

-- name: lock_key
-- in: id; out: the key. Its organization is locked first, see lock_organization_of_key.
SELECT id::text, organization_id::text, name, handle, permissions, metadata, {*},
       pepper_id, created_at, updated_at, expires_at, revoked_at, disabled_at, last_used_at, rotated_to::text, row_version
FROM api_keys
WHERE id = %(id)s
FOR UPDATE;

-- name: lock_organization_of_key
-- in: id; out: organization_id. Changes that look at all keys of an organization come one after the other, and no
-- transaction that has locked a key waits for its organization.
SELECT o.id::text AS organization_id
FROM organizations o JOIN api_keys k ON k.organization_id = o.id
WHERE k.id = %(id)s
FOR NO KEY UPDATE OF o;

-- name: update_key
-- in: id, the terms and disabled_at as they shall be; out: the key
UPDATE api_keys
SET name = %(name)s, permissions = %(permissions)s, expires_at = %(expires_at)s, metadata = %(metadata)s,
    {* = %(*)s},
    disabled_at = %(disabled_at)s
WHERE id = %(id)s
RETURNING id::text, organization_id::text, name, handle, permissions, metadata, {*},
          pepper_id, created_at, updated_at, expires_at, revoked_at, disabled_at, last_used_at, rotated_to::text, row_version;

-- name: retire_key
-- in: id, expires_at, rotated_to; out: the key
UPDATE api_keys
SET expires_at = %(expires_at)s, rotated_to = %(rotated_to)s
WHERE id = %(id)s
RETURNING id::text, organization_id::text, name, handle, permissions, metadata, {*},
          pepper_id, created_at, updated_at, expires_at, revoked_at, disabled_at, last_used_at, rotated_to::text, row_version;

-- name: revoke_key
-- in: id; out: the key. A key that was revoked stays revoked at its first time.
UPDATE api_keys
SET revoked_at = coalesce(revoked_at, now())
WHERE id = %(id)s
RETURNING id::text, organization_id::text, name, handle, permissions, metadata, {*},
          pepper_id, created_at, updated_at, expires_at, revoked_at, disabled_at, last_used_at, rotated_to::text, row_version;

-- name: count_usable_keys
-- in: organization_id; out: usable
SELECT count(*) AS usable
FROM api_keys
WHERE organization_id = %(organization_id)s
  AND revoked_at IS NULL AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: count_lasting_keys
-- in: organization_id, id; out: of the usable keys that may do something and have no successor: this (0 or 1) and others
SELECT count(*) FILTER (WHERE id = %(id)s) AS this, count(*) FILTER (WHERE id <> %(id)s) AS others
FROM api_keys
WHERE organization_id = %(organization_id)s
  AND revoked_at IS NULL AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > now())
  AND rotated_to IS NULL AND permissions @? '$.*[*]';

-- name: count_by_pepper
-- out: pepper_id, keys, usable
SELECT pepper_id, count(*) AS keys,
       count(*) FILTER (
           WHERE revoked_at IS NULL AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > now())
       ) AS usable
FROM api_keys
GROUP BY pepper_id;

-- name: create_plan
-- in: name and every limit; out: the plan
INSERT INTO plans (name, {*})
VALUES (%(name)s, {%(*)s})
RETURNING id::text, name, {*}, created_at, updated_at, row_version;

-- name: list_plans
-- out: all plans by name
SELECT id::text, name, {*}, created_at, updated_at, row_version
FROM plans ORDER BY name;

-- name: page_of_plans
-- in: at, id (null: from the newest), at_most; out: plans older than that, newest first
SELECT id::text, name, {*}, created_at, updated_at, row_version
FROM plans
WHERE %(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(id)s)
ORDER BY created_at DESC, id DESC
LIMIT %(at_most)s;

-- name: show_plan
-- in: id (or null), ref (a name, where it is none), normal (the name as it is stored); out: the plan. Where one's name is another's id, the id wins.
SELECT id::text, name, {*}, created_at, updated_at, row_version
FROM plans WHERE id = %(id)s OR name IN (%(ref)s, %(normal)s)
ORDER BY id = %(id)s DESC, name = %(ref)s DESC LIMIT 1;

-- name: plans_called_like
-- in: normal (a name that nothing has), patterns (text[], of LIKE, lower case), shortest, longest (characters); out: name of
-- at most 50 plans that differ from it by case, first, or are as long and like a pattern
SELECT name FROM plans
WHERE lower(name) = lower(%(normal)s)
   OR (char_length(name) BETWEEN %(shortest)s AND %(longest)s AND lower(name) LIKE ANY (%(patterns)s::text[]))
ORDER BY lower(name) = lower(%(normal)s) DESC, name
LIMIT 50;

-- name: hold_plan
-- in: id (or null), ref; out: the plan as show_plan finds it, locked against changes
SELECT id::text, name, {*}, created_at, updated_at, row_version
FROM plans WHERE id = %(id)s OR name IN (%(ref)s, %(normal)s)
ORDER BY id = %(id)s DESC, name = %(ref)s DESC LIMIT 1
FOR SHARE;

-- name: lock_plan
-- in: id; out: the plan
SELECT id::text, name, {*}, created_at, updated_at, row_version
FROM plans WHERE id = %(id)s FOR UPDATE;

-- name: update_plan
-- in: id and every limit as it shall be; out: the plan
UPDATE plans
SET {* = %(*)s}
WHERE id = %(id)s
RETURNING id::text, name, {*}, created_at, updated_at, row_version;

-- name: delete_plan
-- in: id; out: its id
DELETE FROM plans WHERE id = %(id)s RETURNING id::text;

-- name: count_of_plan
-- in: id; out: how many organizations have that plan
SELECT count(*) AS organizations FROM organizations WHERE plan_id = %(id)s;

-- name: create_organization
-- in: name, plan_id, timezone, anchor; out: its id
INSERT INTO organizations (name, plan_id, timezone, anchor)
VALUES (%(name)s, %(plan_id)s, %(timezone)s, %(anchor)s)
RETURNING id::text;

-- name: list_organizations
-- out: all organizations by name, with their own limits where they override the plan's
SELECT o.id::text, o.name, p.name AS plan, o.status, {o.*},
       o.overrides_until AS until, o.limits AS limits_mode, o.timezone, o.anchor, o.created_at, o.updated_at, o.row_version,
       o.timezone_before, to_char(o.last_day, 'YYYY-MM-DD') AS last_day,
       o.anchor_before, to_char(o.next_month, 'YYYY-MM-DD') AS next_month
FROM organizations o JOIN plans p ON p.id = o.plan_id
ORDER BY o.name;

-- name: page_of_organizations
-- in: at, id (null: from the newest), at_most; out: organizations older than that, newest first
SELECT o.id::text, o.name, p.name AS plan, o.status, {o.*},
       o.overrides_until AS until, o.limits AS limits_mode, o.timezone, o.anchor, o.created_at, o.updated_at, o.row_version,
       o.timezone_before, to_char(o.last_day, 'YYYY-MM-DD') AS last_day,
       o.anchor_before, to_char(o.next_month, 'YYYY-MM-DD') AS next_month
FROM organizations o JOIN plans p ON p.id = o.plan_id
WHERE %(at)s::timestamptz IS NULL OR (o.created_at, o.id) < (%(at)s, %(id)s)
ORDER BY o.created_at DESC, o.id DESC
LIMIT %(at_most)s;

-- name: show_organization
-- in: id (or null), ref (a name, where it is none); out: the organization. The id wins, as with plans.
SELECT o.id::text, o.name, p.name AS plan, o.status, {o.*},
       o.overrides_until AS until, o.limits AS limits_mode, o.timezone, o.anchor, o.created_at, o.updated_at, o.row_version,
       o.timezone_before, to_char(o.last_day, 'YYYY-MM-DD') AS last_day,
       o.anchor_before, to_char(o.next_month, 'YYYY-MM-DD') AS next_month
FROM organizations o JOIN plans p ON p.id = o.plan_id
WHERE o.id = %(id)s OR o.name IN (%(ref)s, %(normal)s)
ORDER BY o.id = %(id)s DESC, o.name = %(ref)s DESC LIMIT 1;

-- name: organizations_called_like
-- in: normal (a name that nothing has), patterns (text[], of LIKE, lower case), shortest, longest (characters); out: name of
-- at most 50 organizations that differ from it by case, first, or are as long and like a pattern
SELECT name FROM organizations
WHERE lower(name) = lower(%(normal)s)
   OR (char_length(name) BETWEEN %(shortest)s AND %(longest)s AND lower(name) LIKE ANY (%(patterns)s::text[]))
ORDER BY lower(name) = lower(%(normal)s) DESC, name
LIMIT 50;

-- name: lock_organization
-- in: id (or null), ref (a name, where id is null); out: the id of the organization, locked: no other transaction changes it
-- nor adds a key to it. Without its plan: a row that had to be waited for is not joined again.
SELECT id::text FROM organizations
WHERE id = %(id)s OR name IN (%(ref)s, %(normal)s)
ORDER BY id = %(id)s DESC, name = %(ref)s DESC LIMIT 1
FOR UPDATE;

-- name: update_organization
-- in: id, name, plan_id, status, every override and their end, limits, timezone, anchor as they shall be; out: its id
UPDATE organizations
SET name = %(name)s, plan_id = %(plan_id)s, status = %(status)s,
    {* = %(*)s},
    overrides_until = %(until)s, limits = %(limits_mode)s, timezone = %(timezone)s, anchor = %(anchor)s
WHERE id = %(id)s
RETURNING id::text;

-- name: delete_organization
-- in: id; out: its id. Its keys go with it.
DELETE FROM organizations WHERE id = %(id)s RETURNING id::text;

-- name: page_of_audit_log
-- in: organization_id, plan_id, key_id, actor (whole, or what stands behind its colon), since (null: any), id (null: from
-- the newest), at_most; out: entries older than that, newest first. What is gone is called what the entry itself says.
SELECT entry.id, at, actor, role, action, kind, subject_id, entry.organization_id, diff, reason,
       coalesce(plan.name, organization.name, key.name, diff -> 'name' ->> 1, diff -> 'name' ->> 0) AS subject_name
FROM audit_log AS entry
LEFT JOIN plans AS plan ON plan.id = CASE kind WHEN 'plan' THEN subject_id::uuid END
LEFT JOIN organizations AS organization ON organization.id = CASE kind WHEN 'organization' THEN subject_id::uuid END
LEFT JOIN api_keys AS key ON key.id = CASE kind WHEN 'api_key' THEN subject_id::uuid END
WHERE (%(organization_id)s::text IS NULL OR entry.organization_id = %(organization_id)s)
  AND (%(plan_id)s::text IS NULL OR (kind = 'plan' AND subject_id = %(plan_id)s))
  AND (%(key_id)s::text IS NULL OR (kind = 'api_key' AND subject_id = %(key_id)s))
  AND (%(actor)s::text IS NULL OR actor = %(actor)s OR substr(actor, strpos(actor, ':') + 1) = %(actor)s)
  AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
  AND (%(id)s::bigint IS NULL OR entry.id < %(id)s)
ORDER BY entry.id DESC
LIMIT %(at_most)s;

-- name: is_or_was_a_key
-- in: id (a text); out: a row where a key has that id, or had it as far as the audit log goes.
SELECT 1 FROM api_keys WHERE id = %(id)s::uuid
UNION ALL
SELECT 1 FROM audit_log WHERE kind = 'api_key' AND subject_id = %(id)s::text
LIMIT 1;
