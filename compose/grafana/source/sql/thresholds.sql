-- How many organizations came to 80, 90 and 100 % of a quota in the time range.
SELECT 'past ' || t.threshold || ' %' AS metric, count(DISTINCT e.organization_id) AS organizations
FROM (VALUES (80), (90), (100)) AS t (threshold)
LEFT JOIN quota_events e ON e.threshold = t.threshold AND $__timeFilter(e.at)
GROUP BY t.threshold
ORDER BY t.threshold
