-- Refusals without a known organization, by group of client addresses.
SELECT coalesce(r.address, 'none') AS address, r.decision, sum(r.count) AS refusals, max(r.since) AS latest
FROM rejections r
WHERE r.organization_id IS NULL AND $__timeFilter(r.since)
GROUP BY r.address, r.decision
ORDER BY refusals DESC, address
LIMIT 20
