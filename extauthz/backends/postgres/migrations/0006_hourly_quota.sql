-- A quota by the clock hour of an organization's time zone; null means no such limit, 0 allows nothing.

ALTER TABLE plans ADD COLUMN hourly_quota bigint
    CONSTRAINT plans_hourly_quota_valid CHECK (hourly_quota BETWEEN 0 AND 1000000000000);
ALTER TABLE api_keys ADD COLUMN hourly_quota bigint
    CONSTRAINT api_keys_hourly_quota_valid CHECK (hourly_quota BETWEEN 0 AND 1000000000000);
ALTER TABLE organizations
    ADD COLUMN hourly_quota bigint
        CONSTRAINT organizations_hourly_quota_valid CHECK (hourly_quota BETWEEN 0 AND 1000000000000),
    -- As in 0004_first_calendar.sql, with the new limit. Rows that satisfied the old constraint satisfy this one, so the
    -- table is not read under the lock.
    DROP CONSTRAINT organizations_until_ends_own_limits,
    ADD CONSTRAINT organizations_until_ends_own_limits CHECK (
        overrides_until IS NULL OR num_nonnulls(rate, burst, hourly_quota, daily_quota, monthly_quota) > 0
    ) NOT VALID;

DROP TRIGGER organizations_2_forget_end ON organizations;
CREATE TRIGGER organizations_2_forget_end BEFORE UPDATE ON organizations
FOR EACH ROW WHEN (
    NEW.overrides_until = OLD.overrides_until
    AND num_nonnulls(OLD.rate, OLD.burst, OLD.hourly_quota, OLD.daily_quota, OLD.monthly_quota) > 0
    AND num_nonnulls(NEW.rate, NEW.burst, NEW.hourly_quota, NEW.daily_quota, NEW.monthly_quota) = 0
) EXECUTE FUNCTION extauthz_forget_end();

-- A threshold of an hourly quota is an event once a day; `window_start` is that day.
ALTER TABLE quota_events
    DROP CONSTRAINT quota_events_quota_valid,
    ADD CONSTRAINT quota_events_quota_valid CHECK (quota IN ('hourly', 'daily', 'monthly')) NOT VALID;
