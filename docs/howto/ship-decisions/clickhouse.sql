-- The table for the decision log. What is null there is an empty text here; rows go after 90 days.
CREATE TABLE IF NOT EXISTS extauthz_decisions
(
    `time`            DateTime64(6, 'UTC'),
    `decision`        LowCardinality(String),
    `reason`          LowCardinality(String),
    `status`          UInt16,
    `dialect`         LowCardinality(String),
    `method`          LowCardinality(String),
    `path`            String,
    `host`            LowCardinality(String),
    `route`           LowCardinality(String),
    `organization_id` String,
    `api_key_id`      String,
    `subject`         String,
    `cost`            UInt32,
    `request_id`      String,
    `trace_id`        String,
    `duration_us`     UInt32,
    `degraded`        Bool,
    `worker`          UInt16,
    INDEX by_request request_id TYPE bloom_filter GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toDate(`time`)
ORDER BY (`organization_id`, `time`)
TTL toDateTime(`time`) + INTERVAL 90 DAY;
