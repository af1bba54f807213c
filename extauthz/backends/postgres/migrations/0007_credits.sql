-- Credits: a count that does not renew, granted to an organization or a key. Null means no such limit, 0 allows nothing.
-- 0002_life_cycle.sql says at its head how trigger functions run.

-- The total that was granted, used or not; it is topped up by raising it.
ALTER TABLE organizations ADD COLUMN credits bigint
    CONSTRAINT organizations_credits_valid CHECK (credits BETWEEN 0 AND 1000000000000);
ALTER TABLE api_keys ADD COLUMN credits bigint
    CONSTRAINT api_keys_credits_valid CHECK (credits BETWEEN 0 AND 1000000000000);

-- What was used of them since the first grant. No foreign keys: what an organization used outlives its keys.
CREATE TABLE credits_used (
    organization_id uuid NOT NULL,
    -- 00000000-0000-0000-0000-000000000000: of the organization's own credits, not of a key's
    api_key_id uuid NOT NULL,
    -- goes up only, and is written as it stands, never added to
    used bigint NOT NULL CONSTRAINT credits_used_used_valid CHECK (used >= 0),
    PRIMARY KEY (organization_id, api_key_id)
);

-- A role that may keep usage may keep this, too: without it, it could not even read what counters begin with.
DO $$
DECLARE
    held record;
BEGIN
    FOR held IN
        SELECT acl.grantee, acl.privilege_type
        FROM pg_class, aclexplode(relacl) AS acl
        WHERE pg_class.oid = 'usage_daily'::regclass AND acl.grantee <> relowner
          AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format(
            'GRANT %s ON credits_used TO %s', held.privilege_type,
            CASE held.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(held.grantee)) END
        );
    END LOOP;
END $$;

-- Why a change was made, in the words of its actor; null where none were given.
ALTER TABLE audit_log ADD COLUMN reason text
    CONSTRAINT audit_log_reason_valid CHECK (length(reason) BETWEEN 1 AND 500);

-- As in 0002_life_cycle.sql, with the reason that a session gives by extauthz.reason in its transaction.
CREATE OR REPLACE FUNCTION extauthz_tell() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    kind CONSTANT text := TG_ARGV[0];
    before CONSTANT jsonb := CASE TG_OP WHEN 'INSERT' THEN '{}' ELSE to_jsonb(OLD) END;
    after CONSTANT jsonb := CASE TG_OP WHEN 'DELETE' THEN '{}' ELSE to_jsonb(NEW) END;
    known CONSTANT jsonb := before || after;
    meant CONSTANT text := current_setting('extauthz.action', true);
    actor CONSTANT text := coalesce(nullif(current_setting('extauthz.actor', true), ''), 'sql:' || session_user);
    reason CONSTANT text := nullif(left(current_setting('extauthz.reason', true), 500), '');
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
        'INSERT INTO %I.audit_log (actor, action, kind, subject_id, organization_id, diff, reason)
         VALUES ($1, $2, $3, $4, $5, $6, $7)',
        TG_TABLE_SCHEMA
    ) USING actor, action, kind, known ->> 'id',
        CASE kind WHEN 'api_key' THEN known ->> 'organization_id' WHEN 'organization' THEN known ->> 'id' END, diff,
        reason;
    PERFORM pg_notify('extauthz', format('%s %s %s', kind, known ->> 'id', pg_current_xact_id()));
    IF before ->> 'id' <> after ->> 'id' THEN
        PERFORM pg_notify('extauthz', format('%s %s %s', kind, before ->> 'id', pg_current_xact_id()));
    END IF;
    RETURN NULL;
END
$$;
