-- Credits of organizations and keys, as management shows and grants them. Ids go in as uuid; the id of no key stands for
-- an organization's own.

-- name: credits_of_organization
-- in: id (or null), ref, normal: as show_organization finds it; out: id, name, organization_id, granted (null: no such limit),
-- used as saved, row_version
SELECT o.id::text, o.name, o.id::text AS organization_id, o.credits AS granted, coalesce(u.used, 0) AS used, o.row_version
FROM organizations o
LEFT JOIN credits_used u ON u.organization_id = o.id AND u.api_key_id = '00000000-0000-0000-0000-000000000000'
WHERE o.id = %(id)s OR o.name IN (%(ref)s, %(normal)s)
ORDER BY o.id = %(id)s DESC, o.name = %(ref)s DESC LIMIT 1;

-- name: credits_of_key
-- in: id; out: the same of a key
SELECT k.id::text, k.name, k.organization_id::text, k.credits AS granted, coalesce(u.used, 0) AS used, k.row_version
FROM api_keys k
LEFT JOIN credits_used u ON u.organization_id = k.organization_id AND u.api_key_id = k.id
WHERE k.id = %(id)s;

-- name: grant_to_organization
-- in: id, granted (null: no such limit). The organization is locked before.
UPDATE organizations SET credits = %(granted)s WHERE id = %(id)s;

-- name: grant_to_key
-- in: id, granted (null: no such limit). The key is locked before.
UPDATE api_keys SET credits = %(granted)s WHERE id = %(id)s;
