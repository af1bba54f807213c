-- Requests of the chosen organizations, by the days of their calendars.
SELECT u.day::timestamp AT TIME ZONE 'UTC' AS time, sum(u.allowed) AS allowed,
       sum(u.rate_limited) AS "over rate", sum(u.over_quota) AS "over quota"
FROM usage_daily u
JOIN organizations o ON o.id = u.organization_id
WHERE u.day BETWEEN ($__timeFrom()::timestamptz AT TIME ZONE o.timezone)::date
                AND ($__timeTo()::timestamptz AT TIME ZONE o.timezone)::date
  AND ('${organization:pipe}' = '.*'
       OR u.organization_id = ANY (string_to_array(nullif('${organization:pipe}', '.*'), '|')::uuid[]))
GROUP BY 1
ORDER BY 1
