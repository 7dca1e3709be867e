"""Alembic's entry: it runs on the connection that it is given, inside that connection's transaction."""

from alembic import context

from serving.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    # SQLite cannot alter a table in place; Alembic copies it.
    render_as_batch=True,
)
context.run_migrations()
