"""Texts of machines as bytes where the database's own type takes no NUL (PostgreSQL)."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE quarantine ALTER COLUMN text TYPE bytea USING convert_to(text, 'UTF8')")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE quarantine ALTER COLUMN text TYPE varchar USING convert_from(text, 'UTF8')")
