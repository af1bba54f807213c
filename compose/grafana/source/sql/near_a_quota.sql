-- Organizations that have used half of a quota or more, those nearest to its end first.
-- Days and months are those of each organization's calendar, also while a change of it is not in force yet.
WITH today AS (
    SELECT o.*,
           CASE
               WHEN o.last_day IS NOT NULL
                AND now() < greatest((o.last_day + 1)::timestamp AT TIME ZONE o.timezone_before,
                                     (o.last_day + 1)::timestamp AT TIME ZONE o.timezone)
               THEN least((now() AT TIME ZONE o.timezone_before)::date, o.last_day)
               ELSE (now() AT TIME ZONE o.timezone)::date
           END AS day
    FROM organizations o
), calendars AS (
    SELECT t.*, greatest(m.first, CASE WHEN t.day >= t.next_month THEN t.next_month END) AS month
    FROM today t, LATERAL (
        SELECT max(begins)::date AS first
        FROM generate_series(-1, 0) AS earlier (months),
             date_trunc('month', t.day::timestamp + make_interval(months => months)) AS calendar (first),
             least(calendar.first + make_interval(days => CASE WHEN t.day < t.next_month THEN t.anchor_before ELSE t.anchor END - 1),
                   calendar.first + interval '1 month - 1 day') AS begins
        WHERE begins <= t.day
    ) AS m
), quotas AS (
    SELECT c.id, c.name, c.day, p.name AS plan, q.quota, q.first, q."limit"
    FROM calendars c
    JOIN plans p ON p.id = c.plan_id,
    LATERAL (VALUES
        ('daily', c.day,
         CASE WHEN c.overrides_until <= now() THEN p.daily_quota ELSE coalesce(c.daily_quota, p.daily_quota) END),
        ('monthly', c.month,
         CASE WHEN c.overrides_until <= now() THEN p.monthly_quota ELSE coalesce(c.monthly_quota, p.monthly_quota) END)
    ) AS q (quota, first, "limit")
    WHERE q."limit" > 0
), used AS (
    SELECT q.*, coalesce((
        SELECT sum(u.cost) FROM usage_daily u WHERE u.organization_id = q.id AND u.day BETWEEN q.first AND q.day
    ), 0) AS used
    FROM quotas q
)
SELECT name AS organization, plan, quota, used, "limit", used / "limit"::numeric AS share, id
FROM used
WHERE used >= 0.5 * "limit"
ORDER BY share DESC, organization
LIMIT 100
