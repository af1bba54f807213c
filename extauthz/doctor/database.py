"""PostgreSQL: whether it can be reached, takes writes, has our schema, and lets our role do what it must."""

from extauthz.app.directories import ExternalDirectory, directory
from extauthz.backends.postgres import external_tables
from extauthz.backends.postgres.error_texts import remedy
from extauthz.backends.postgres.external_tables import LookupUnfit
from extauthz.backends.postgres.inspection import DatabaseReport, KeysReport, inspect, inspect_keys
from extauthz.backends.postgres.schema import SchemaStatus, SchemaUnknown
from extauthz.config import Settings
from extauthz.core.errors import StoreUnavailable
from extauthz.doctor.finding import ANSWER_TIMEOUT_SECONDS, Finding, address, away, clock

REACHABLE = "database reachable"
NOTIFY = "database messages"
_OWNER = "let the role own the database and its tables: ALTER DATABASE … OWNER TO …, or GRANT it what is missing"


async def database(settings: Settings) -> list[Finding]:
    """What is to say of DATABASE_URL."""
    dsn, where = settings.database_url.get_secret_value(), address(settings, "DATABASE_URL")
    try:
        report = await inspect(dsn, patience=ANSWER_TIMEOUT_SECONDS)
    except StoreUnavailable as error:
        return [away(REACHABLE, where, error, "DATABASE_URL")]
    findings = [
        Finding(REACHABLE, True, f"PostgreSQL {report.version} at {where}"),
        _primary(report),
        clock("database clock", "PostgreSQL", report.ahead, report.doubt),
    ]
    if isinstance(directory(settings), ExternalDirectory):
        return [*findings, await _lookup(settings)]
    findings.append(_rights(report))
    if report.schema is None:
        return findings
    return [*findings, _schema(report.schema), *(await _keys(settings) if report.schema.current else ())]


async def messages(settings: Settings) -> list[Finding]:
    """Whether messages of changes arrive: they come by a direct connection alone."""
    dsn, where = settings.notify_database_url.get_secret_value(), address(settings, "EXTAUTHZ_NOTIFY_DATABASE_URL")
    try:
        report = await inspect(dsn, patience=ANSWER_TIMEOUT_SECONDS)
    except StoreUnavailable as error:
        if dsn == settings.database_url.get_secret_value():
            return []  # said already
        return [away(NOTIFY, where, error, "EXTAUTHZ_NOTIFY_DATABASE_URL")]
    if report.direct:
        return [Finding(NOTIFY, True, "changes are told at once, by a direct connection")]
    direct = "give EXTAUTHZ_NOTIFY_DATABASE_URL a direct connection"
    return [Finding(NOTIFY, True, "a pooler is between: changes take effect when caches end", direct)]


def _primary(report: DatabaseReport) -> Finding:
    check = "database primary"
    if report.standby:
        return Finding(check, False, "the server is a standby: it takes no writes", "point DATABASE_URL at the primary")
    if report.read_only:
        words = "cannot execute writes in a read-only transaction"
        return Finding(check, False, f"the session is read-only: {words}", _writable())
    return Finding(check, True, "the server takes writes")


def _writable() -> str:
    return f"{remedy('read-only transaction')}, or see to default_transaction_read_only of the role"


def _schema(status: SchemaStatus) -> Finding:
    check = "database schema"
    if status.current:
        return Finding(check, True, f"the schema is at version {status.known}")
    detail, _, helps = str(SchemaUnknown(status.found)).partition("; ")
    return Finding(check, False, detail, helps)


def _rights(report: DatabaseReport) -> Finding:
    check = "database rights"
    if report.lacking:
        shown = ", ".join(report.lacking[:3]) + (f" and {len(report.lacking) - 3} more" * (len(report.lacking) > 3))
        return Finding(check, False, f"the role lacks {shown}", _OWNER)
    if report.superuser:
        own = "a role of its own that owns the database is enough: docs/howto/run-it.md"
        return Finding(check, True, "the role is a superuser and may do more than extauthz needs", own)
    return Finding(check, True, "the role may do what extauthz does")


async def _lookup(settings: Settings) -> Finding:
    check = "lookup_sql"
    dsn = settings.database_url.get_secret_value()
    try:
        await directory(settings).check(dsn)
    except LookupUnfit as error:
        return Finding(check, False, str(error), external_tables.MEND)
    except StoreUnavailable as error:
        return away(check, "the statement was not run", error, "DATABASE_URL")
    return Finding(check, True, "the statement runs and has the columns it needs")


async def _keys(settings: Settings) -> list[Finding]:
    try:
        report = await inspect_keys(settings.database_url.get_secret_value(), patience=ANSWER_TIMEOUT_SECONDS)
    except StoreUnavailable as error:
        return [away("keys", "keys could not be read", error, "DATABASE_URL")]
    return [_expiry(report), _peppers(report, {pepper.name for pepper in settings.key_pepper})]


def _expiry(report: KeysReport) -> Finding:
    if not report.month:
        return Finding("keys expiring", True, "no key ends within 30 days")
    detail = f"{report.week} key{' ends' if report.week == 1 else 's end'} within 7 days, {report.month} within 30"
    return Finding("keys expiring", True, detail, "tell their owners, or rotate them: extauthz keys rotate ID")


def _peppers(report: KeysReport, configured: set[str]) -> Finding:
    check = "keys pepper"
    lost = {name: count for name, count in report.peppers.items() if name not in configured}
    if lost:
        detail = (
            f"{sum(lost.values())} usable keys depend on a pepper that is not configured: {', '.join(sorted(lost))}"
        )
        return Finding(check, False, detail, "put that pepper back into EXTAUTHZ_KEY_PEPPER, behind the first")
    return Finding(check, True, "every usable key depends on a pepper that is configured")
