-- Limits that one can bill on: how an organization counts days and months, what was used, and what was announced.
-- 0002_life_cycle.sql says at its head how trigger functions run.

-- Columns ------------------------------------------------------------------------------------------------------------

ALTER TABLE organizations
    -- how its days and months are counted; a month begins on the day `anchor`, in a shorter one on its last day
    ADD COLUMN timezone text NOT NULL DEFAULT 'UTC',
    ADD COLUMN anchor smallint NOT NULL DEFAULT 1
        CONSTRAINT organizations_anchor_valid CHECK (anchor BETWEEN 1 AND 31),
    -- its own limits count before that time, from then on its plan's do; null is never
    ADD COLUMN overrides_until timestamptz
        CONSTRAINT organizations_overrides_until_valid
        CHECK (overrides_until >= '1970-01-01Z' AND overrides_until < '9999-01-01Z'),
    -- shadow: everything is computed and counted, and no request is refused
    ADD COLUMN limits text NOT NULL DEFAULT 'enforce'
        CONSTRAINT organizations_limits_valid CHECK (limits IN ('enforce', 'shadow')),
    -- Kept by a trigger, never chosen: days up to last_day are counted in timezone_before, months that begin before
    -- next_month by anchor_before.
    ADD COLUMN timezone_before text,
    ADD COLUMN last_day date,
    ADD COLUMN anchor_before smallint,
    ADD COLUMN next_month date;

-- The transaction that made the change, which its message names as well. What is there already gets the number of this
-- one: a session that sees the end of it sees all that came before.
ALTER TABLE audit_log ADD COLUMN xact xid8 NOT NULL DEFAULT pg_current_xact_id();

-- Tables -------------------------------------------------------------------------------------------------------------

-- What each key was charged and refused, by the day of its organization's calendar. No foreign keys: bills outlive keys.
CREATE TABLE usage_daily (
    organization_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    day date NOT NULL,
    allowed bigint NOT NULL DEFAULT 0 CONSTRAINT usage_daily_allowed_valid CHECK (allowed >= 0),
    cost bigint NOT NULL DEFAULT 0 CONSTRAINT usage_daily_cost_valid CHECK (cost >= 0),
    rate_limited bigint NOT NULL DEFAULT 0 CONSTRAINT usage_daily_rate_limited_valid CHECK (rate_limited >= 0),
    over_quota bigint NOT NULL DEFAULT 0 CONSTRAINT usage_daily_over_quota_valid CHECK (over_quota >= 0),
    -- goes up with allowed and cost, which are written as they stand, never added to
    revision bigint NOT NULL DEFAULT 0 CONSTRAINT usage_daily_revision_valid CHECK (revision >= 0),
    PRIMARY KEY (organization_id, day, api_key_id)
);

-- Batches of refusals that were added: one that comes again adds nothing.
CREATE TABLE usage_batches (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX usage_batches_by_time ON usage_batches (at);

-- An organization has used `threshold` percent of a quota: once in each window.
CREATE TABLE quota_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    at timestamptz NOT NULL DEFAULT now(),
    organization_id uuid NOT NULL,
    quota text NOT NULL CONSTRAINT quota_events_quota_valid CHECK (quota IN ('daily', 'monthly')),
    window_start date NOT NULL,
    threshold smallint NOT NULL CONSTRAINT quota_events_threshold_valid CHECK (threshold IN (80, 90, 100)),
    used bigint NOT NULL CONSTRAINT quota_events_used_valid CHECK (used >= 0),
    "limit" bigint NOT NULL CONSTRAINT quota_events_limit_valid CHECK ("limit" >= 0),
    -- the webhook: delivered, given up, or to be tried again at next_attempt_at (null: not tried yet)
    delivered_at timestamptz,
    attempts integer NOT NULL DEFAULT 0 CONSTRAINT quota_events_attempts_valid CHECK (attempts >= 0),
    next_attempt_at timestamptz,
    failed_at timestamptz,
    CONSTRAINT quota_events_once UNIQUE (organization_id, quota, window_start, threshold)
);
CREATE INDEX quota_events_undelivered ON quota_events (at) WHERE delivered_at IS NULL AND failed_at IS NULL;

-- Calendars ----------------------------------------------------------------------------------------------------------

-- Time zones are names of the IANA database: PostgreSQL would also take `cest`, `europe/berlin` and `UTC+25`. To look a
-- name up takes PostgreSQL a while, so each new one is looked up once in a statement, however many rows it changes.
CREATE FUNCTION extauthz_check_timezones() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text[];
    unknown text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        names := ARRAY(SELECT DISTINCT timezone FROM rows_after WHERE timezone <> 'UTC');
    ELSE
        names := ARRAY(SELECT timezone FROM rows_after EXCEPT SELECT timezone FROM rows_before EXCEPT VALUES ('UTC'));
    END IF;
    SELECT name INTO unknown
    FROM unnest(names) AS given (name)
    WHERE name !~ '^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$' OR name ~ '^(posix/|right/|Factory$)'
       OR name NOT IN (SELECT known.name FROM pg_timezone_names AS known);
    IF FOUND THEN
        RAISE EXCEPTION 'an organization would have a time zone that PostgreSQL does not know, %', quote_literal(unknown)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'organizations_timezone_valid', TABLE = TG_TABLE_NAME,
                  HINT = 'Names stand in pg_timezone_names; one is Europe/Berlin.';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER organizations_check_first_timezones AFTER INSERT ON organizations
REFERENCING NEW TABLE AS rows_after FOR EACH STATEMENT EXECUTE FUNCTION extauthz_check_timezones();
CREATE TRIGGER organizations_check_timezones AFTER UPDATE ON organizations
REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after
FOR EACH STATEMENT EXECUTE FUNCTION extauthz_check_timezones();

-- A change of zone holds from the end of the day under way, one of anchor from the end of the month under way, so that
-- none is given twice. The day under way ends where both zones are past it. What is changed again before that changes
-- only what follows. A zone may be lost, as PostgreSQL is moved to other time zone data: what was counted in it is then
-- taken as UTC, so that the organization can be given another.
CREATE FUNCTION extauthz_keep_calendar() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at CONSTANT timestamptz := clock_timestamp();
    moved CONSTANT boolean := NEW.timezone <> OLD.timezone;
    today date;
    before date;
    this_month date;
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

CREATE TRIGGER organizations_1_keep_calendar BEFORE INSERT OR UPDATE ON organizations
FOR EACH ROW EXECUTE FUNCTION extauthz_keep_calendar();
