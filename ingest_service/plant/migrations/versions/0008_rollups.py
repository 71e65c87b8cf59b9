"""Which hours a server holds rollups of, and which of them have to be made again."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rollup",
        sa.Column("rollup_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("begin_at", sa.BigInteger, nullable=False),
        sa.Column("through", sa.BigInteger, nullable=False),
        sa.Column("complete", sa.Integer, nullable=False, server_default="0"),
    )
    op.create_table(
        "rollup_due",
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("block", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("rollup_due", "rollup"):
        op.drop_table(table)
