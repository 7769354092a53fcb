"""Give envelopes an id of their own.

A recipient that may have gone out already went out with its token as ENVID, and keeps it: what gives that back was
written by whoever holds the copy, or by a server on the way, and nobody can say which.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

from receiptd import correlation_token

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward."""
    op.add_column("recipient", sa.Column("envelope_id", sa.String(), nullable=True))
    op.create_index(op.f("ix_recipient_envelope_id"), "recipient", ["envelope_id"], unique=True)
    connection = op.get_bind()
    unsent = sa.text(
        "SELECT id FROM recipient WHERE submitted_at IS NULL AND delivery IN ('queued', 'deferred')"
        " AND NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.recipient = recipient.id AND"
        " (attempt.outcome IS NULL OR attempt.outcome IN ('accepted', 'uncertain')))"
    )
    give = sa.text("UPDATE recipient SET envelope_id = :envelope_id WHERE id = :id")
    rows = [{"id": row.id, "envelope_id": correlation_token.make()} for row in connection.execute(unsent)]
    if rows:
        connection.execute(give, rows)


def downgrade() -> None:
    """Bring them back."""
    op.drop_index(op.f("ix_recipient_envelope_id"), "recipient")
    op.drop_column("recipient", "envelope_id")
