"""Take every number of IMAP: UIDs and UIDVALIDITY have 32 bits without a sign, PostgreSQL's integer has 31.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TABLES = ("folder", "report")


def upgrade() -> None:
    """Bring the tables forward; SQLite's integers have 64 bits anyway."""
    _alter("bigint")


def downgrade() -> None:
    """Take them back."""
    _alter("integer")


def _alter(kind: str) -> None:
    """Change one table after another, each in a transaction of its own: a daemon that works on both can't deadlock."""
    if op.get_bind().dialect.name != "postgresql":
        return
    with op.get_context().autocommit_block():
        for table in _TABLES:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN uid TYPE {kind}, ALTER COLUMN uidvalidity TYPE {kind}")
