-- The organizations with most use on the days of the time range, by the calendar of each.
SELECT o.name AS organization, sum(u.allowed) AS allowed, sum(u.cost) AS cost,
       sum(u.rate_limited) AS "over rate", sum(u.over_quota) AS "over quota", o.id
FROM usage_daily u
JOIN organizations o ON o.id = u.organization_id
WHERE u.day BETWEEN ($__timeFrom()::timestamptz AT TIME ZONE o.timezone)::date
                AND ($__timeTo()::timestamptz AT TIME ZONE o.timezone)::date
GROUP BY o.id, o.name
ORDER BY cost DESC, organization
LIMIT 20
