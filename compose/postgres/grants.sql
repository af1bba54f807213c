-- What Grafana's role may read: usage and refusals, and of keys all but their digests.
GRANT SELECT ON plans, organizations, usage_daily, quota_events, rejections TO grafana;
GRANT SELECT (
    id, organization_id, name, handle, permissions, created_at, expires_at, revoked_at, disabled_at, last_used_at
) ON api_keys TO grafana;
