-- Keys that work and were not used for 30 days, or never since they were made, the oldest first.
SELECT o.name AS organization, k.name AS key, k.handle, k.created_at AS created, k.last_used_at AS "last used", o.id
FROM api_keys k
JOIN organizations o ON o.id = k.organization_id
WHERE coalesce(k.last_used_at, k.created_at) < now() - interval '30 days'
  AND (k.expires_at IS NULL OR k.expires_at > now()) AND k.revoked_at IS NULL AND k.disabled_at IS NULL
ORDER BY coalesce(k.last_used_at, k.created_at)
LIMIT 100
