-- The life cycle of keys. Triggers number, date, record and announce every change, from every writer, so that what is
-- typed into psql works like what the API does.
--
-- Trigger functions run as their owner: a role that may change a table needs no right to write the audit log. They name
-- each table by the schema of the table that was changed, so that no search path leads them astray.

-- Columns ------------------------------------------------------------------------------------------------------------

CREATE FUNCTION extauthz_metadata_valid(metadata jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_typeof(metadata) = 'object' AND (
        SELECT count(*) <= 50 AND coalesce(bool_and(
            length(name) BETWEEN 1 AND 64 AND jsonb_typeof(value) = 'string' AND length(value #>> '{}') <= 500
        ), true)
        FROM jsonb_each(CASE jsonb_typeof(metadata) WHEN 'object' THEN metadata ELSE '{}' END) AS entry (name, value)
    )
$$;

-- A plan is asked for by id or name, too.
ALTER TABLE plans ADD CONSTRAINT plans_name_no_id
    CHECK (name !~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$');

-- row_version goes up by one with every change but one of last_used_at, and updated_at is when that was.
ALTER TABLE plans
    ADD COLUMN row_version integer NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();

ALTER TABLE organizations
    ADD COLUMN row_version integer NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();

ALTER TABLE api_keys
    ADD COLUMN row_version integer NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}'
        CONSTRAINT api_keys_metadata_valid CHECK (extauthz_metadata_valid(metadata)),
    -- its own limits, inside its organization's; null: without such a limit
    ADD COLUMN rate text CONSTRAINT api_keys_rate_valid CHECK (extauthz_rate_valid(rate)),
    ADD COLUMN burst bigint CONSTRAINT api_keys_burst_valid CHECK (burst BETWEEN 1 AND 1000000000),
    ADD COLUMN daily_quota bigint CONSTRAINT api_keys_daily_quota_valid CHECK (daily_quota BETWEEN 0 AND 1000000000000),
    ADD COLUMN monthly_quota bigint
        CONSTRAINT api_keys_monthly_quota_valid CHECK (monthly_quota BETWEEN 0 AND 1000000000000),
    -- the key that took its place
    ADD COLUMN rotated_to uuid,
    ADD CONSTRAINT api_keys_rate_and_burst_go_together CHECK ((rate IS NULL) = (burst IS NULL));

-- Pages of lists, newest first.
CREATE INDEX organizations_by_age ON organizations (created_at DESC, id DESC);
CREATE INDEX api_keys_by_age ON api_keys (created_at DESC, id DESC);

-- Hashes of revoked keys whose rows are gone. None of them is a key's again.
CREATE TABLE retired_hashes (
    hash bytea PRIMARY KEY
);

-- Changes, with their actors. Written by triggers, in the transaction of the change; nothing else writes here.
CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    -- the role that was logged in to PostgreSQL: an actor is what a session says of itself, this is not
    role text NOT NULL DEFAULT session_user,
    action text NOT NULL,
    kind text NOT NULL,
    subject_id text NOT NULL,
    organization_id text,
    diff jsonb NOT NULL CONSTRAINT audit_log_diff_valid CHECK (jsonb_typeof(diff) = 'object')
);
-- what was changed lately, for listeners that were away for a while
CREATE INDEX audit_log_by_time ON audit_log (at);
CREATE INDEX audit_log_by_organization ON audit_log (organization_id, id DESC);

-- Numbered and dated -------------------------------------------------------------------------------------------------

-- Numbers and dates are never taken from a statement. A use of a key does not count as a change.
CREATE FUNCTION extauthz_number() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ours CONSTANT text[] := '{row_version,updated_at,last_used_at}';
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.row_version := 1;
        NEW.updated_at := clock_timestamp();
    ELSIF to_jsonb(OLD) - ours IS DISTINCT FROM to_jsonb(NEW) - ours THEN
        NEW.row_version := OLD.row_version + 1;
        NEW.updated_at := clock_timestamp();
    ELSE
        NEW.row_version := OLD.row_version;
        NEW.updated_at := OLD.updated_at;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER plans_2_number BEFORE INSERT OR UPDATE ON plans
FOR EACH ROW EXECUTE FUNCTION extauthz_number();
CREATE TRIGGER organizations_2_number BEFORE INSERT OR UPDATE ON organizations
FOR EACH ROW EXECUTE FUNCTION extauthz_number();
CREATE TRIGGER api_keys_2_number BEFORE INSERT OR UPDATE ON api_keys
FOR EACH ROW EXECUTE FUNCTION extauthz_number();

-- Written down and told ----------------------------------------------------------------------------------------------

-- In: the kind of entity. A session names its actor by extauthz.actor in its transaction; extauthz.action says what a change
-- is meant as, where the change itself does not. The message holds ids and nothing else.
CREATE FUNCTION extauthz_tell() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    kind CONSTANT text := TG_ARGV[0];
    before CONSTANT jsonb := CASE TG_OP WHEN 'INSERT' THEN '{}' ELSE to_jsonb(OLD) END;
    after CONSTANT jsonb := CASE TG_OP WHEN 'DELETE' THEN '{}' ELSE to_jsonb(NEW) END;
    known CONSTANT jsonb := before || after;
    meant CONSTANT text := current_setting('extauthz.action', true);
    actor CONSTANT text := coalesce(nullif(current_setting('extauthz.actor', true), ''), 'sql:' || session_user);
    action text;
    diff jsonb;
BEGIN
    action := kind || '.' || CASE
        WHEN TG_OP = 'INSERT' THEN 'create'
        WHEN TG_OP = 'DELETE' THEN 'delete'
        WHEN before ->> 'revoked_at' IS NULL AND after ->> 'revoked_at' IS NOT NULL THEN 'revoke'
        WHEN before ->> 'disabled_at' IS NULL AND after ->> 'disabled_at' IS NOT NULL THEN 'disable'
        WHEN before ->> 'disabled_at' IS NOT NULL AND after ->> 'disabled_at' IS NULL THEN 'enable'
        WHEN before ->> 'status' = 'active' AND after ->> 'status' = 'suspended' THEN 'suspend'
        WHEN before ->> 'status' = 'suspended' AND after ->> 'status' = 'active' THEN 'resume'
        ELSE 'update'
    END;
    IF split_part(meant, '.', 1) = kind THEN
        action := meant;
    END IF;
    SELECT coalesce(jsonb_object_agg(field, jsonb_build_array(before -> field, after -> field)), '{}') INTO diff
    FROM jsonb_object_keys(known) AS field
    WHERE field <> ALL ('{hash,row_version,updated_at,last_used_at}')
      AND coalesce(before -> field, 'null') <> coalesce(after -> field, 'null');
    EXECUTE format(
        'INSERT INTO %I.audit_log (actor, action, kind, subject_id, organization_id, diff) VALUES ($1, $2, $3, $4, $5, $6)',
        TG_TABLE_SCHEMA
    ) USING actor, action, kind, known ->> 'id',
        CASE kind WHEN 'api_key' THEN known ->> 'organization_id' WHEN 'organization' THEN known ->> 'id' END, diff;
    PERFORM pg_notify('extauthz', format('%s %s %s', kind, known ->> 'id', pg_current_xact_id()));
    IF before ->> 'id' <> after ->> 'id' THEN
        PERFORM pg_notify('extauthz', format('%s %s %s', kind, before ->> 'id', pg_current_xact_id()));
    END IF;
    RETURN NULL;
END
$$;

-- The number goes up with what is a change, so that a use of a key is not announced.
CREATE TRIGGER plans_tell AFTER INSERT OR DELETE ON plans
FOR EACH ROW EXECUTE FUNCTION extauthz_tell('plan');
CREATE TRIGGER plans_tell_change AFTER UPDATE ON plans
FOR EACH ROW WHEN (OLD.row_version <> NEW.row_version) EXECUTE FUNCTION extauthz_tell('plan');
CREATE TRIGGER organizations_tell AFTER INSERT OR DELETE ON organizations
FOR EACH ROW EXECUTE FUNCTION extauthz_tell('organization');
CREATE TRIGGER organizations_tell_change AFTER UPDATE ON organizations
FOR EACH ROW WHEN (OLD.row_version <> NEW.row_version) EXECUTE FUNCTION extauthz_tell('organization');
CREATE TRIGGER api_keys_tell AFTER INSERT OR DELETE ON api_keys
FOR EACH ROW EXECUTE FUNCTION extauthz_tell('api_key');
CREATE TRIGGER api_keys_tell_change AFTER UPDATE ON api_keys
FOR EACH ROW WHEN (OLD.row_version <> NEW.row_version) EXECUTE FUNCTION extauthz_tell('api_key');
