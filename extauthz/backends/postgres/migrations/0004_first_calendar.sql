-- An organization counts by its first calendar from the start; the end of own limits, and halves of them.
-- 0002_life_cycle.sql says at its head how trigger functions run.

-- Calendars ----------------------------------------------------------------------------------------------------------

-- As in 0003_usage.sql, but for an organization of which no charge is written down yet: there is no day and no month
-- that could be given twice, so that its zone and anchor hold at once, as if it had been made with them.
CREATE OR REPLACE FUNCTION extauthz_keep_calendar() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at CONSTANT timestamptz := clock_timestamp();
    moved CONSTANT boolean := NEW.timezone <> OLD.timezone;
    today date;
    before date;
    this_month date;
    charged boolean;
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.timezone_before := NULL;
        NEW.last_day := NULL;
        NEW.anchor_before := NULL;
        NEW.next_month := NULL;
        RETURN NEW;
    END IF;
    NEW.timezone_before := OLD.timezone_before;
    NEW.last_day := OLD.last_day;
    NEW.anchor_before := OLD.anchor_before;
    NEW.next_month := OLD.next_month;
    IF NOT moved AND NEW.anchor = OLD.anchor THEN
        RETURN NEW;
    END IF;
    EXECUTE format(
        'SELECT EXISTS (SELECT 1 FROM %I.usage_daily WHERE organization_id = $1 AND (allowed > 0 OR cost > 0))',
        TG_TABLE_SCHEMA
    ) INTO charged USING OLD.id;
    IF NOT charged THEN
        NEW.timezone_before := NULL;
        NEW.last_day := NULL;
        NEW.anchor_before := NULL;
        NEW.next_month := NULL;
        RETURN NEW;
    END IF;
    BEGIN
        PERFORM at AT TIME ZONE OLD.timezone;
    EXCEPTION WHEN invalid_parameter_value THEN
        OLD.timezone := 'UTC';
    END;
    BEGIN
        PERFORM at AT TIME ZONE OLD.timezone_before;
    EXCEPTION WHEN invalid_parameter_value THEN
        OLD.timezone_before := 'UTC';
    END;
    today := (at AT TIME ZONE OLD.timezone)::date;
    before := (at AT TIME ZONE OLD.timezone_before)::date;
    IF least(today, before) <= OLD.last_day THEN -- an earlier change of zone is not in force yet
        today := least(before, OLD.last_day);
    ELSIF moved THEN
        NEW.timezone_before := OLD.timezone;
        NEW.last_day := today;
    END IF;
    IF NEW.anchor <> OLD.anchor AND (OLD.next_month IS NULL OR today >= OLD.next_month) THEN
        SELECT max(begins) FILTER (WHERE begins <= today), min(begins) FILTER (WHERE begins > today)
        INTO this_month, NEW.next_month
        FROM generate_series(-1, 1) AS later (months),
             date_trunc('month', today::timestamp + make_interval(months => months)) AS month (first),
             least(first + make_interval(days => OLD.anchor - 1), first + interval '1 month - 1 day') AS begins;
        -- The month after a change may be a short one, which began on another day than the anchor says.
        NEW.anchor_before := CASE
            WHEN OLD.next_month > this_month THEN extract(day FROM OLD.next_month) ELSE OLD.anchor
        END;
    END IF;
    RETURN NEW;
END
$$;

-- Ends of own limits -------------------------------------------------------------------------------------------------

-- What has none of its own can have no end of them; it would end those that are given later.
UPDATE organizations SET overrides_until = NULL
WHERE overrides_until IS NOT NULL AND num_nonnulls(rate, burst, daily_quota, monthly_quota) = 0;

ALTER TABLE organizations ADD CONSTRAINT organizations_until_ends_own_limits
    CHECK (overrides_until IS NULL OR num_nonnulls(rate, burst, daily_quota, monthly_quota) > 0);

-- The end of own limits goes with the last of them.
CREATE FUNCTION extauthz_forget_end() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.overrides_until := NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER organizations_2_forget_end BEFORE UPDATE ON organizations
FOR EACH ROW WHEN (
    NEW.overrides_until = OLD.overrides_until
    AND num_nonnulls(OLD.rate, OLD.burst, OLD.daily_quota, OLD.monthly_quota) > 0
    AND num_nonnulls(NEW.rate, NEW.burst, NEW.daily_quota, NEW.monthly_quota) = 0
) EXECUTE FUNCTION extauthz_forget_end();

-- Whole buckets ------------------------------------------------------------------------------------------------------

-- As in 0002_refusals.sql, but own limits that are over count no more: the organization has those of its plan.
CREATE OR REPLACE FUNCTION extauthz_fit_plan() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fits boolean;
BEGIN
    IF NEW.overrides_until <= clock_timestamp() THEN
        RETURN NULL;
    END IF;
    EXECUTE format(
        'SELECT (coalesce($1, rate) IS NULL) = (coalesce($2, burst) IS NULL) FROM %I.plans WHERE id = $3 FOR SHARE',
        TG_TABLE_SCHEMA
    ) INTO fits USING NEW.rate, NEW.burst, NEW.plan_id;
    IF NOT fits THEN
        RAISE EXCEPTION 'organization % (%) would have a rate without a burst, or a burst without a rate',
                        NEW.name, NEW.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'organizations_rate_and_burst_go_together',
                  TABLE = TG_TABLE_NAME, DETAIL = NEW.name;
    END IF;
    RETURN NULL;
END
$$;

-- Also where limits of the past come back.
DROP TRIGGER organizations_still_fit_plan ON organizations;
CREATE TRIGGER organizations_still_fit_plan AFTER UPDATE ON organizations
FOR EACH ROW WHEN (
    (OLD.plan_id, OLD.rate, OLD.burst, OLD.overrides_until)
    IS DISTINCT FROM (NEW.plan_id, NEW.rate, NEW.burst, NEW.overrides_until)
) EXECUTE FUNCTION extauthz_fit_plan();

-- The same, by name.
CREATE OR REPLACE FUNCTION extauthz_fit_organizations() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    halves text[];
    names text;
BEGIN
    EXECUTE format(
        'SELECT array_agg(name ORDER BY name) FROM %I.organizations
         WHERE plan_id = $3 AND (coalesce(rate, $1) IS NULL) <> (coalesce(burst, $2) IS NULL)
           AND (overrides_until IS NULL OR overrides_until > clock_timestamp())',
        TG_TABLE_SCHEMA
    ) INTO halves USING NEW.rate, NEW.burst, NEW.id;
    IF halves IS NOT NULL THEN
        names := array_to_string(halves[1:5], ', ')
            || CASE WHEN cardinality(halves) > 5 THEN format(' and %s more', cardinality(halves) - 5) ELSE '' END;
        RAISE EXCEPTION 'organizations override half of the bucket of plan % (%): %', NEW.name, NEW.id, names
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'plans_bucket_is_overridden', TABLE = TG_TABLE_NAME,
                  DETAIL = names;
    END IF;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION extauthz_keep_calendar() FROM PUBLIC;
