"""Loss records by the time at which they were recorded: reports ask every few seconds for the latest."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("span_by_time", "span", ["recorded_at"])


def downgrade() -> None:
    op.drop_index("span_by_time", "span")
