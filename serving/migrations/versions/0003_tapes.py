"""Trades and books: what waits for its bar, what they say of a bar, and which bars were made of others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Adding a column with a constant default rewrites no row, on either database.
    op.add_column("bars", sa.Column("made", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "bar_details",
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("interval_s", sa.Integer(), primary_key=True),
        sa.Column("symbol", sa.String(64), primary_key=True),
        sa.Column("open_time", sa.BigInteger(), primary_key=True),
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("layout", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "detail_layouts",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("columns", sa.JSON(), nullable=False),
    )
    op.create_index("bar_details_by_time", "bar_details", ["source", "interval_s", "open_time"])
    op.create_table(
        "tape_batches",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("symbol", sa.String(64), nullable=False),
        sa.Column("last_us", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
    )
    op.create_index("tape_batches_by_time", "tape_batches", ["kind", "symbol", "last_us"])
    op.create_table(
        "tapes",
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("symbol", sa.String(64), primary_key=True),
        sa.Column("state", sa.JSON(), nullable=False),
    )


def downgrade() -> None:
    for table in ("tapes", "tape_batches", "detail_layouts", "bar_details"):
        op.drop_table(table)
    with op.batch_alter_table("bars") as bars:
        bars.drop_column("made")
