"""Remember recent mail of a folder, so that a server that uses UIDs twice is noticed.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    with op.batch_alter_table("folder") as batch_op:
        batch_op.add_column(
            sa.Column("recent", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True)
        )


def downgrade() -> None:
    """Take them back."""
    with op.batch_alter_table("folder") as batch_op:
        batch_op.drop_column("recent")
