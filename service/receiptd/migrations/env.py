"""Run the migrations on the connection that receiptd.store hands over."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import JSON
from sqlmodel import AutoString, UTCDateTime

from receiptd.models import TABLES, Words


def _render(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Write our column types as plain SQL types, so that a migration doesn't change with the models."""
    if kind == "type" and isinstance(item, Words):
        return "sa.String(24)"
    if kind == "type" and isinstance(item, AutoString):
        return "sa.String()"
    if kind == "type" and isinstance(item, UTCDateTime):
        return "UTCDateTime()"
    if kind == "type" and isinstance(item, JSON):
        return 'sa.JSON().with_variant(postgresql.JSONB(), "postgresql")'
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=TABLES, render_as_batch=True, render_item=_render, compare_type=False
)
with context.begin_transaction():
    context.run_migrations()
