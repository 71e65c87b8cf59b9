"""What adds up: streams, discarded samples, re-admissions; alarms; when an agent was first seen."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_FULL = "quarantine full: %"


def upgrade() -> None:
    op.create_table(
        "stream_note",
        sa.Column("stream_id", sa.String(64), primary_key=True),
        sa.Column("agent_id", sa.String(64), nullable=False),
        sa.Column("repeated", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("vanished_through", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("vanished_at", sa.BigInteger),
    )
    op.create_table(
        "discard",
        sa.Column("discard_id", sa.String(64), primary_key=True),
        sa.Column("stream_id", sa.String(64), nullable=False),
        sa.Column("agent_id", sa.String(64), nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("fate", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(200), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String(200), nullable=False, server_default=""),
    )
    op.create_index("discard_by_stream", "discard", ["stream_id", "first_seq"])
    op.create_table(
        "alarm",
        sa.Column("alarm_id", sa.String(32), primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(100), nullable=False),
        sa.Column("asset", sa.String(400), nullable=False),
        sa.Column("message", sa.String(1000), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger),
        sa.Column("acknowledged_at", sa.BigInteger),
        sa.Column("acknowledged_by", sa.String(200), nullable=False, server_default=""),
    )
    op.create_index("alarm_by_time", "alarm", ["since"])
    op.add_column("quarantine", sa.Column("readmit_stream", sa.String(64)))
    op.add_column("quarantine", sa.Column("readmit_seq", sa.BigInteger))
    op.add_column("quarantine", sa.Column("readmitted_at", sa.BigInteger))
    op.add_column("quarantine", sa.Column("readmitted_by", sa.String(200), nullable=False, server_default=""))
    op.create_index("quarantine_by_time", "quarantine", ["quarantined_at", "stream_id", "seq"])
    op.create_index("quarantine_by_readmission", "quarantine", ["readmit_stream", "readmit_seq"])
    op.add_column("agent", sa.Column("first_seen", sa.BigInteger))
    op.add_column("agent", sa.Column("retired_at", sa.BigInteger))
    op.execute("UPDATE agent SET first_seen = last_contact")
    # What had no room in quarantine was a loss record, over numbers of which some are stored.
    span, discard = sa.table("span", *_columns(_SPAN)), sa.table("discard", *_columns(_DISCARD))
    full = span.c.reason.like(_FULL)
    chosen = sa.select(
        span.c.record_id, span.c.stream_id, span.c.agent_id, span.c.first_seq, span.c.last_seq, span.c["count"],
        sa.literal("full"), sa.func.substr(span.c.reason, len(_FULL), 200), span.c.recorded_at,
    ).where(full)  # fmt: skip
    op.execute(discard.insert().from_select(_DISCARD, chosen))
    op.execute(span.delete().where(full))


def downgrade() -> None:
    op.drop_column("agent", "retired_at")
    op.drop_column("agent", "first_seen")
    op.drop_index("quarantine_by_readmission", "quarantine")
    op.drop_index("quarantine_by_time", "quarantine")
    for column in ("readmitted_by", "readmitted_at", "readmit_seq", "readmit_stream"):
        op.drop_column("quarantine", column)
    for table in ("alarm", "discard", "stream_note"):
        op.drop_table(table)


_SPAN = ["record_id", "stream_id", "agent_id", "first_seq", "last_seq", "count", "reason", "recorded_at"]
_DISCARD = ["discard_id", "stream_id", "agent_id", "first_seq", "last_seq", "count", "fate", "reason", "at"]


def _columns(names: list[str]) -> list["sa.ColumnClause[object]"]:
    return [sa.column(name) for name in names]
