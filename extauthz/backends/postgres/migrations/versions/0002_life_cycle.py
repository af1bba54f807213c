"""The life cycle of keys: what changed, since when, by whom; and who is told."""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Before: 0001. After: the columns, triggers and audit log of the two files; every row stays as it was."""
    for file in ("0002_life_cycle.sql", "0002_refusals.sql"):
        op.get_bind().exec_driver_sql(Path(__file__).with_name(file).read_text("utf-8").replace("%", "%%"))
