-- Plans, organizations and keys. Constraints refuse what must never be, from every writer.

CREATE FUNCTION extauthz_permissions_valid(permissions jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_typeof(permissions) = 'object' AND NOT EXISTS (
        SELECT 1
        FROM jsonb_each(CASE jsonb_typeof(permissions) WHEN 'object' THEN permissions ELSE '{}' END) AS entry (resource, modes)
        WHERE resource !~ '^(\*|[A-Za-z0-9_-]{1,64})$'
           OR jsonb_typeof(modes) <> 'array'
           OR NOT modes <@ '["read", "write"]'::jsonb
    )
$$;

-- A rate is a count and a period, kept exactly as written: 0.5/s, 100/min, 1/d.
CREATE FUNCTION extauthz_rate_valid(rate text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN rate !~ '^([0-9]{1,14}(\.[0-9]{1,3})?(/s)?|[0-9]{1,14}(\.[0-9]{1,2})?/(min|h)|[0-9]{1,14}(\.[0-9])?/d)$' THEN false
        ELSE split_part(rate, '/', 1)::numeric > 0
         AND split_part(rate, '/', 1)::numeric
             <= 1000000000::numeric * CASE split_part(rate, '/', 2) WHEN 'min' THEN 60 WHEN 'h' THEN 3600 WHEN 'd' THEN 86400 ELSE 1 END
    END
$$;

CREATE TABLE plans (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL CONSTRAINT plans_name_taken UNIQUE
        CONSTRAINT plans_name_valid CHECK (name ~ '^[A-Za-z0-9]([A-Za-z0-9 ._-]{0,62}[A-Za-z0-9._-])?$'),
    rate text CONSTRAINT plans_rate_valid CHECK (extauthz_rate_valid(rate)),
    burst bigint CONSTRAINT plans_burst_valid CHECK (burst BETWEEN 1 AND 1000000000),
    daily_quota bigint CONSTRAINT plans_daily_quota_valid CHECK (daily_quota BETWEEN 0 AND 1000000000000),
    monthly_quota bigint CONSTRAINT plans_monthly_quota_valid CHECK (monthly_quota BETWEEN 0 AND 1000000000000),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT plans_rate_and_burst_go_together CHECK ((rate IS NULL) = (burst IS NULL))
);

CREATE TABLE organizations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL CONSTRAINT organizations_name_taken UNIQUE
        CONSTRAINT organizations_name_valid CHECK (
            length(name) BETWEEN 1 AND 255 AND name !~ '[[:cntrl:]]' AND name = btrim(name)
            -- a name that looks like an id could be taken for another organization's
            AND name !~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
        ),
    plan_id uuid NOT NULL CONSTRAINT organizations_plan_exists REFERENCES plans (id),
    status text NOT NULL DEFAULT 'active'
        CONSTRAINT organizations_status_valid CHECK (status IN ('active', 'suspended')),
    -- its own limits; null is the plan's
    rate text CONSTRAINT organizations_rate_valid CHECK (extauthz_rate_valid(rate)),
    burst bigint CONSTRAINT organizations_burst_valid CHECK (burst BETWEEN 1 AND 1000000000),
    daily_quota bigint CONSTRAINT organizations_daily_quota_valid CHECK (daily_quota BETWEEN 0 AND 1000000000000),
    monthly_quota bigint CONSTRAINT organizations_monthly_quota_valid CHECK (monthly_quota BETWEEN 0 AND 1000000000000),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX organizations_by_plan ON organizations (plan_id);

CREATE TABLE api_keys (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    name text NOT NULL DEFAULT ''
        CONSTRAINT api_keys_name_valid CHECK (length(name) <= 255 AND name !~ '[[:cntrl:]]'),
    -- HMAC-SHA256(pepper, key); the key itself is nowhere
    hash bytea NOT NULL CONSTRAINT api_keys_hash_taken UNIQUE
        CONSTRAINT api_keys_hash_valid CHECK (octet_length(hash) = 32),
    pepper_id text NOT NULL CONSTRAINT api_keys_pepper_id_valid CHECK (pepper_id ~ '^[A-Za-z0-9_-]{1,32}$'),
    -- what lists show: prefix and last four characters
    handle text NOT NULL CONSTRAINT api_keys_handle_valid CHECK (length(handle) BETWEEN 1 AND 64),
    permissions jsonb NOT NULL CONSTRAINT api_keys_permissions_valid CHECK (extauthz_permissions_valid(permissions)),
    expires_at timestamptz,
    revoked_at timestamptz,
    disabled_at timestamptz,
    last_used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX api_keys_by_organization ON api_keys (organization_id, created_at DESC, id DESC);

-- the plan that an organization gets when none is named
INSERT INTO plans (name, rate, burst, daily_quota) VALUES ('default', '10/s', 20, 10000);
