"""The first calendar of an organization, and ends of limits that it has."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Before: 0003. After: the triggers of 0004_first_calendar.sql; an end of no limits of its own is gone."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text("utf-8").replace("%", "%%"))
