-- What a session needs before our statements run in it: a limit for each statement, and times in one form.

-- name: begin_session
-- in: pid (of the server process, as it was told at the connection), milliseconds (null: the limit stays as it is).
-- out: direct, false where a pooler stands between: it told a number of its own. Then all of it ends with this
-- statement's own transaction, because the next client of the pooler would find it in the session.
SELECT pg_backend_pid() = %(pid)s::bigint AS direct,
       set_config('statement_timeout', coalesce(%(milliseconds)s::text, current_setting('statement_timeout')),
                  pg_backend_pid() <> %(pid)s::bigint),
       set_config('timezone', 'UTC', pg_backend_pid() <> %(pid)s::bigint),
       set_config('datestyle', 'ISO', pg_backend_pid() <> %(pid)s::bigint);

-- name: begin_locally
-- A transaction with the same for itself alone, for connections through a pooler. {{milliseconds}} is put in, since a
-- statement that has arguments is sent alone.
BEGIN;
SET LOCAL statement_timeout = {milliseconds};
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'ISO';
