"""What Alembic runs: our revisions, in one transaction, on the connection that `schema.upgrade` gives."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
