"""Open positions by contract, for the impact budget."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "positions",
        sa.Column("symbol", sa.String(64), primary_key=True),
        sa.Column("made_at", sa.Float(53), nullable=False),
        sa.Column("long", sa.JSON(), nullable=False),
        sa.Column("short", sa.JSON(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("positions")
