"""Refusals that can be asked for later, and indexes of the audit log by key and by actor."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Before: 0004. After: the table and the indexes of 0005_rejections.sql."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text("utf-8").replace("%", "%%"))
