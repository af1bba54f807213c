"""Limits that one can bill on: calendars of organizations, ends of overrides, what was used, who was told."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Before: 0002. After: the columns, triggers and tables of 0003_usage.sql; every row stays as it was."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text("utf-8").replace("%", "%%"))
