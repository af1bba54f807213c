-- Refusals of the chosen organizations, newest first, with the last request of each.
SELECT r.since, o.name AS organization, r.decision, r.reason, r.route, k.name AS key, r.count AS refusals,
       r.samples -> -1 ->> 'method' AS method, r.samples -> -1 ->> 'path' AS path,
       r.samples -> -1 ->> 'request_id' AS "request id"
FROM rejections r
LEFT JOIN organizations o ON o.id = r.organization_id
LEFT JOIN api_keys k ON k.id = r.api_key_id
WHERE $__timeFilter(r.since)
  AND ('${organization:pipe}' = '.*'
       OR r.organization_id = ANY (string_to_array(nullif('${organization:pipe}', '.*'), '|')::uuid[]))
ORDER BY r.since DESC, refusals DESC
LIMIT 200
