-- What triggers refuse, from every writer: a revoked key that comes back, half a bucket, a change that is not announced.
-- Follows 0002_life_cycle.sql, whose head says how trigger functions run.

-- Revoked for good ---------------------------------------------------------------------------------------------------

-- Revoking twice keeps the first time, so that one statement may revoke many keys of which some are revoked already.
CREATE FUNCTION extauthz_keep_revoked() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.revoked_at IS NULL OR NEW.id <> OLD.id OR NEW.hash <> OLD.hash THEN
        RAISE EXCEPTION 'key % is revoked, for good', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'api_keys_revoked_for_good', TABLE = TG_TABLE_NAME;
    END IF;
    NEW.revoked_at := OLD.revoked_at;
    RETURN NEW;
END
$$;

CREATE TRIGGER api_keys_1_keep_revoked BEFORE UPDATE ON api_keys
FOR EACH ROW WHEN (OLD.revoked_at IS NOT NULL) EXECUTE FUNCTION extauthz_keep_revoked();

CREATE FUNCTION extauthz_retire_hash() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('INSERT INTO %I.retired_hashes VALUES ($1) ON CONFLICT DO NOTHING', TG_TABLE_SCHEMA) USING OLD.hash;
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_retire_hash AFTER DELETE ON api_keys
FOR EACH ROW WHEN (OLD.revoked_at IS NOT NULL) EXECUTE FUNCTION extauthz_retire_hash();

-- After the row, not before: a deletion of the same hash that was under way has been waited for by then.
CREATE FUNCTION extauthz_refuse_retired() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    retired boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I.retired_hashes WHERE hash = $1)', TG_TABLE_SCHEMA)
        INTO retired USING NEW.hash;
    IF retired THEN
        RAISE EXCEPTION 'the hash is that of a key that was revoked, for good'
            USING ERRCODE = 'unique_violation', CONSTRAINT = 'api_keys_hash_retired', TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_refuse_retired AFTER INSERT OR UPDATE OF hash ON api_keys
FOR EACH ROW EXECUTE FUNCTION extauthz_refuse_retired();

-- Whole buckets ------------------------------------------------------------------------------------------------------

-- An organization's own rate and burst stand in for its plan's, one by one; together they are a bucket or none. Its plan
-- is held, so that it does not change at the same moment.
CREATE FUNCTION extauthz_fit_plan() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fits boolean;
BEGIN
    EXECUTE format(
        'SELECT (coalesce($1, rate) IS NULL) = (coalesce($2, burst) IS NULL) FROM %I.plans WHERE id = $3 FOR SHARE',
        TG_TABLE_SCHEMA
    ) INTO fits USING NEW.rate, NEW.burst, NEW.plan_id;
    IF NOT fits THEN
        RAISE EXCEPTION 'organization % would have a rate without a burst, or a burst without a rate', NEW.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'organizations_rate_and_burst_go_together',
                  TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER organizations_fit_plan AFTER INSERT ON organizations
FOR EACH ROW EXECUTE FUNCTION extauthz_fit_plan();
CREATE TRIGGER organizations_still_fit_plan AFTER UPDATE ON organizations
FOR EACH ROW WHEN ((OLD.plan_id, OLD.rate, OLD.burst) IS DISTINCT FROM (NEW.plan_id, NEW.rate, NEW.burst))
EXECUTE FUNCTION extauthz_fit_plan();

CREATE FUNCTION extauthz_fit_organizations() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    halves bigint;
BEGIN
    EXECUTE format(
        'SELECT count(*) FROM %I.organizations
         WHERE plan_id = $3 AND (coalesce(rate, $1) IS NULL) <> (coalesce(burst, $2) IS NULL)',
        TG_TABLE_SCHEMA
    ) INTO halves USING NEW.rate, NEW.burst, NEW.id;
    IF halves > 0 THEN
        RAISE EXCEPTION 'organizations override half of the bucket of plan % (%)', NEW.id, halves
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'plans_bucket_is_overridden', TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER plans_fit_organizations AFTER UPDATE ON plans
FOR EACH ROW WHEN ((OLD.rate, OLD.burst) IS DISTINCT FROM (NEW.rate, NEW.burst))
EXECUTE FUNCTION extauthz_fit_organizations();

-- Row by row ---------------------------------------------------------------------------------------------------------

-- TRUNCATE runs no trigger of a row: caches would go on with what is gone, and revoked keys could come back.
CREATE FUNCTION extauthz_refuse_truncate() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% cannot be truncated: nobody would be told, and nothing written down', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = format('Use DELETE FROM %I.', TG_TABLE_NAME);
END
$$;

CREATE TRIGGER plans_refuse_truncate BEFORE TRUNCATE ON plans EXECUTE FUNCTION extauthz_refuse_truncate();
CREATE TRIGGER organizations_refuse_truncate BEFORE TRUNCATE ON organizations
EXECUTE FUNCTION extauthz_refuse_truncate();
CREATE TRIGGER api_keys_refuse_truncate BEFORE TRUNCATE ON api_keys EXECUTE FUNCTION extauthz_refuse_truncate();

-- A role that may call a function which runs as its owner could put it on a table of its own, and make it write anywhere.
DO $$
DECLARE
    ours regprocedure;
BEGIN
    FOR ours IN
        SELECT oid FROM pg_proc
        WHERE prosecdef AND proname LIKE 'extauthz\_%' AND pronamespace = quote_ident(current_schema())::regnamespace
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', ours);
    END LOOP;
END
$$;
