"""The schema and its history. Alembic is imported by the commands that need it, not by the service."""
