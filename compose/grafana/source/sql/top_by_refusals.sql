-- The organizations with most refusals in the time range, by decision and reason.
SELECT o.name AS organization, r.decision, r.reason, sum(r.count) AS refusals, max(r.since) AS latest, o.id
FROM rejections r
JOIN organizations o ON o.id = r.organization_id
WHERE $__timeFilter(r.since)
GROUP BY o.id, o.name, r.decision, r.reason
ORDER BY refusals DESC, organization
LIMIT 20
