-- Keys that work and end within 30 days, the next one first.
SELECT o.name AS organization, k.name AS key, k.handle, k.expires_at AS ends, k.last_used_at AS "last used", o.id
FROM api_keys k
JOIN organizations o ON o.id = k.organization_id
WHERE k.expires_at > now() AND k.expires_at < now() + interval '30 days'
  AND k.revoked_at IS NULL AND k.disabled_at IS NULL
ORDER BY ends
LIMIT 100
