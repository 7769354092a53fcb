"""The tables as SQLAlchemy Core sees them: what works on sets of rows reads and writes columns, not objects."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import Table

from receiptd import models


def _table(model: type[models.Table]) -> Table:
    return models.TABLES.tables[str(model.__tablename__)]


MESSAGE, RECIPIENT, ATTEMPT = _table(models.Message), _table(models.Recipient), _table(models.Attempt)
EVENT, EVENT_COPY, EVIDENCE = _table(models.EventRow), _table(models.EventCopy), _table(models.Evidence)
REPORT, FOLDER = _table(models.ReportRow), _table(models.Folder)
ALERT, DISPATCH, LEASE = _table(models.Alert), _table(models.Dispatch), _table(models.Lease)
DISPATCH_ATTEMPT = _table(models.DispatchAttempt)


def columns(table: Table, record: type[Any]) -> list[Any]:
    """Return the columns of *table* that the fields of *record*, a dataclass, are named after, in their order."""
    return [table.c[one.name] for one in fields(record)]
