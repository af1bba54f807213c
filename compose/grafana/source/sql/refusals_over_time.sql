-- Refusals of the chosen organizations in spans of five minutes, by decision.
SELECT $__timeGroupAlias(r.since, $__interval), r.decision AS metric, sum(r.count) AS refusals
FROM rejections r
WHERE $__timeFilter(r.since)
  AND ('${organization:pipe}' = '.*'
       OR r.organization_id = ANY (string_to_array(nullif('${organization:pipe}', '.*'), '|')::uuid[]))
GROUP BY 1, 2
ORDER BY 1, 2
