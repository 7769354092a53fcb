"""Take every number of IMAP: UIDs and UIDVALIDITY have 32 bits without a sign, PostgreSQL's integer has 31.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS = (("folder", "uidvalidity"), ("folder", "uid"), ("report", "uidvalidity"), ("report", "uid"))


def upgrade() -> None:
    """Bring the tables forward; SQLite's integers have 64 bits anyway."""
    _alter(sa.BigInteger())


def downgrade() -> None:
    """Take them back."""
    _alter(sa.Integer())


def _alter(kind: sa.types.TypeEngine[int]) -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, column in _COLUMNS:
            op.alter_column(table, column, type_=kind)
