"""Workers: processes, processor time, memory, the event loop, and what telemetry had to drop."""

from compose.grafana.source.board import Row, board, instances
from compose.grafana.source.panels import ORANGE, RED, Note, listing, spread, stack, trend
from compose.grafana.source.panels import column as col
from compose.grafana.source.queries import buckets, promql, rows

PROCESSES = Row(
    "Processes",
    [
        stack(
            "Workers",
            Note(
                "Workers of all instances, by state.",
                "Fewer than you run: one has died and is started again, or is killed at once. The log says how it "
                "ended.",
                "workers-missing",
            ),
            promql("sum by (state) (extauthz_workers{@instance})", "{{state}}"),
            unit="short",
            width=8,
        ),
        trend(
            "Restarts",
            Note(
                "Workers that ended by themselves and were started again, over five minutes.",
                "Each costs the checks that were under way. Killed for memory: give the machine more, or fewer "
                "workers.",
                "worker-restarts",
            ),
            promql("increase(extauthz_worker_restarts_total{@instance}[5m])", "{{instance}}"),
            unit="short",
            width=8,
        ),
        listing(
            "Versions",
            Note(
                "What each instance runs.",
                "Two versions for longer than a deployment takes: an instance was left behind.",
            ),
            rows("max by (instance, version, commit) (extauthz_build_info{@instance})"),
            columns={"instance": col(width=200)},
            hidden=["Time", "Value"],
            width=8,
        ),
        trend(
            "Processor time",
            Note(
                "Processors that an instance keeps busy, all its workers together.",
                "Near the number of workers: add workers or instances before latency rises.",
                "event-loop-lag",
            ),
            promql("sum by (instance) (rate(process_cpu_seconds_total{@instance}[@]))", "{{instance}}"),
            unit="none",
            width=8,
        ),
        trend(
            "Memory",
            Note(
                "Resident memory of an instance, all its workers together.",
                "Grows for days without more traffic: note the version and restart one instance after the other.",
            ),
            promql("sum by (instance) (process_resident_memory_bytes{@instance})", "{{instance}}"),
            unit="bytes",
            width=8,
        ),
        trend(
            "Open files",
            Note(
                "Descriptors in use, as a share of those that a process may have. Each connection takes one.",
                "Above 80 %: raise the limit (`ulimit -n`, LimitNOFILE), or make proxies keep fewer connections.",
            ),
            promql("max by (instance) (process_open_fds{@instance} / process_max_fds{@instance})", "{{instance}}"),
            unit="percentunit",
            steps={0.8: RED},
            width=8,
        ),
        trend(
            "Up for",
            Note(
                "Time since an instance was started.",
                "Falls to zero without a deployment: it was restarted. See its log and the platform's events.",
                "down",
            ),
            promql("time() - max by (instance) (process_start_time_seconds{@instance})", "{{instance}}"),
            unit="s",
            width=8,
        ),
        trend(
            "Event loop lag",
            Note(
                "How late the event loop is: p50 and p99. Each check waits that long for the process itself.",
                "p99 above 50 ms: too little processor time. Add workers, or take other work off the machine.",
                "event-loop-lag",
            ),
            promql(
                "histogram_quantile(0.5, sum by (le) (rate(extauthz_event_loop_lag_seconds_bucket{@instance}[@])))",
                "p50",
            ),
            promql(
                "histogram_quantile(0.99, sum by (le) (rate(extauthz_event_loop_lag_seconds_bucket{@instance}[@])))",
                "p99",
            ),
            unit="s",
            steps={0.05: ORANGE},
            width=8,
        ),
        spread(
            "Distribution of the lag",
            Note(
                "Measurements of the event loop's lag: the darker, the more.",
                "A second band: something blocks the loop at times. Compare with the marks and with Processor time.",
                "event-loop-lag",
            ),
            buckets("sum by (le) (rate(extauthz_event_loop_lag_seconds_bucket{@instance}[@]))"),
            unit="s",
            width=8,
        ),
    ],
)

DROPPED = Row(
    "Dropped telemetry",
    [
        trend(
            title,
            Note(shows, do, runbook),
            promql(f"sum by (instance) (rate({metric}{{@instance}}[@]))", "{{instance}}"),
            unit="ops",
            width=6,
        )
        for title, shows, do, runbook, metric in (
            (
                "Log lines",
                "Lines of the log that were not written.",
                "The reader of standard error is too slow or gone, or the disk is full.",
                "log-dropping",
                "extauthz_log_dropped_total",
            ),
            (
                "Decision log",
                "Records of the decision log that were not written. No check waits for it.",
                "Its reader is too slow or gone, or the disk is full. EXTAUTHZ_DECISION_LOG=denials writes fewer.",
                "decision-log-dropping",
                "extauthz_decision_log_dropped_total",
            ),
            (
                "Tail",
                "Decisions that `extauthz tail` did not show, because the terminal was too slow.",
                "Choose an organization, a key or a decision, so that there is less to show.",
                "",
                "extauthz_tail_dropped_total",
            ),
            (
                "Spans",
                "Spans that were not sent.",
                "The collector at OTEL_EXPORTER_OTLP_ENDPOINT is away or slow, or too much is sampled.",
                "spans-dropping",
                "extauthz_spans_dropped_total",
            ),
        )
    ],
)

DASHBOARD = board(
    "workers",
    "Workers",
    "Processes, processor time, memory, the event loop, and what telemetry had to drop.",
    variables=[instances()],
    rows=[PROCESSES, DROPPED],
)
