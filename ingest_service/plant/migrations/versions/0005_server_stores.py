"""What stores on servers keep here: numbers of series, watermarks, the ledger, and samples that they can't hold."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "series",
        sa.Column("series_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("asset", sa.String(400), nullable=False),
        sa.Column("signal", sa.String(600), nullable=False),
    )
    op.create_index("series_by_name", "series", ["asset", "signal"], unique=True)
    op.create_table(
        "stream",
        sa.Column("stream_id", sa.String(64), primary_key=True),
        sa.Column("agent_id", sa.String(64), nullable=False),
        sa.Column("through", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "ledger",
        sa.Column("stream_id", sa.String(64), primary_key=True),
        sa.Column("first_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("agent_id", sa.String(64), nullable=False),
        sa.Column("stored", sa.BigInteger, nullable=False),
        sa.Column("rejected", sa.BigInteger, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ledger_by_time", "ledger", ["received_at"])
    text = sa.String().with_variant(sa.LargeBinary(), "postgresql")
    op.create_table(
        "kept_sample",
        sa.Column("stream_id", sa.String(64), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("series_id", sa.Integer, nullable=False),
        sa.Column("source_time", sa.BigInteger, nullable=False),
        sa.Column("received_time", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Float(53)),
        sa.Column("quality", sa.Integer, nullable=False),
        sa.Column("status", sa.BigInteger, nullable=False),
        sa.Column("text", text),
    )
    op.create_index("kept_sample_by_series", "kept_sample", ["series_id", "source_time"])


def downgrade() -> None:
    for table in ("kept_sample", "ledger", "stream", "series"):
        op.drop_table(table)
