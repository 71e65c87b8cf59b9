"""Begin: tokens, agents, declarations, quarantine, spans, machine states."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "token",
        sa.Column("token_id", sa.Integer, primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("asset", sa.String(400), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_table(
        "agent",
        sa.Column("agent_id", sa.String(64), primary_key=True),
        sa.Column("asset", sa.String(400), nullable=False),
        sa.Column("last_contact", sa.BigInteger),
        sa.Column("heartbeat", sa.String),
        sa.Column("declared_hash", sa.String(1000), nullable=False, server_default=""),
    )
    op.create_table(
        "declaration",
        sa.Column("asset", sa.String(400), primary_key=True),
        sa.Column("signal", sa.String(600), primary_key=True),
        sa.Column("unit", sa.String(1000), nullable=False),
        sa.Column("description", sa.String(1000), nullable=False),
        sa.Column("agent_id", sa.String(64), nullable=False),
    )
    op.create_table(
        "quarantine",
        sa.Column("stream_id", sa.String(64), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("agent_id", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(200), nullable=False),
        sa.Column("quarantined_at", sa.BigInteger, nullable=False),
        sa.Column("asset", sa.String(400), nullable=False),
        sa.Column("signal", sa.String(600), nullable=False),
        sa.Column("source_time", sa.BigInteger, nullable=False),
        sa.Column("received_time", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Float),
        sa.Column("quality", sa.Integer, nullable=False),
        sa.Column("status", sa.BigInteger, nullable=False),
        sa.Column("text", sa.String),
    )
    op.create_table(
        "span",
        sa.Column("record_id", sa.String(64), primary_key=True),
        sa.Column("agent_id", sa.String(64), nullable=False),
        sa.Column("stream_id", sa.String(64), nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("reason", sa.String(1000), nullable=False),
        sa.Column("source", sa.String(1000), nullable=False),
        sa.Column("asset", sa.String(1000), nullable=False),
        sa.Column("from_time", sa.BigInteger, nullable=False),
        sa.Column("to_time", sa.BigInteger, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("at_least", sa.Integer, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
    )
    op.create_index("span_by_stream", "span", ["stream_id", "first_seq"])
    op.create_table(
        "machine_state",
        sa.Column("asset", sa.String(400), primary_key=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("machine_state", "span", "quarantine", "declaration", "agent", "token"):
        op.drop_table(table)
