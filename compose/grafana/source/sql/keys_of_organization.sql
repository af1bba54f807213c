-- Keys of the chosen organizations: whether each works, until when, and its use on the days of the time range.
SELECT o.name AS organization, k.name AS key, k.handle,
       CASE
           WHEN k.revoked_at <= now() THEN 'revoked'
           WHEN k.disabled_at <= now() THEN 'disabled'
           WHEN k.expires_at <= now() THEN 'expired'
           ELSE 'works'
       END AS state,
       k.expires_at AS ends, k.last_used_at AS "last used",
       coalesce(sum(u.allowed), 0) AS allowed, coalesce(sum(u.rate_limited + u.over_quota), 0) AS "over limits"
FROM api_keys k
JOIN organizations o ON o.id = k.organization_id
LEFT JOIN usage_daily u ON u.organization_id = k.organization_id AND u.api_key_id = k.id
                       AND u.day BETWEEN ($__timeFrom()::timestamptz AT TIME ZONE o.timezone)::date
                                     AND ($__timeTo()::timestamptz AT TIME ZONE o.timezone)::date
WHERE '${organization:pipe}' = '.*'
   OR k.organization_id = ANY (string_to_array(nullif('${organization:pipe}', '.*'), '|')::uuid[])
GROUP BY o.id, o.name, k.id
ORDER BY allowed DESC, organization, key
LIMIT 200
