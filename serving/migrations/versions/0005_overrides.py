"""What people order: a chain of events, appended only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "override_events",
        sa.Column("seq", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("override", sa.String(24), nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("identity", sa.String(64), nullable=False),
        sa.Column("made_at", sa.Float(53), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        # The function is that of 0004.
        op.execute(
            "CREATE TRIGGER override_events_appended_only BEFORE UPDATE OR DELETE ON override_events "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER override_events_never_emptied BEFORE TRUNCATE ON override_events "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER override_events_no_{change.lower()} BEFORE {change} ON override_events "
            f"BEGIN SELECT RAISE(ABORT, 'rows of override_events are appended only'); END"
        )


def downgrade() -> None:
    op.drop_table("override_events")
