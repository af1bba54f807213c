-- Why was a request refused yesterday at ten: refusals, counted in spans of five minutes.

-- No foreign keys: what was refused is asked for when a key is gone, too. `id` is made of the columns that name a row,
-- of which some are null, so that a span has each row once.
CREATE TABLE rejections (
    id uuid PRIMARY KEY,
    since timestamptz NOT NULL,
    organization_id uuid, -- null: none was known; then `address` is the group of client addresses
    api_key_id uuid,
    address text,
    route text, -- the pattern of a path; null: no route matched
    decision text NOT NULL,
    reason text NOT NULL DEFAULT '',
    count bigint NOT NULL CONSTRAINT rejections_count_valid CHECK (count > 0),
    -- the last ones: an array of {at, method, path, request_id}
    samples jsonb NOT NULL DEFAULT '[]'
);
CREATE INDEX rejections_by_organization ON rejections (organization_id, since, id);
CREATE INDEX rejections_by_time ON rejections (since);

CREATE INDEX audit_log_by_subject ON audit_log (subject_id, id);
CREATE INDEX audit_log_by_actor ON audit_log (actor, id);
