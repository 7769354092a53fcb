"""Find the last ended requests of a domain, however many of it are still open.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ENDED = sa.text("receipt NOT IN ('open', 'waived')")


def upgrade() -> None:
    """Bring the tables forward."""
    op.create_index(
        "ix_recipient_domain_ended", "recipient", ["domain", "id"], sqlite_where=_ENDED, postgresql_where=_ENDED
    )
