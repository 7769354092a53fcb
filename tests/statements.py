"""How many SQL statements a step says: executemany is one."""

from __future__ import annotations

from typing import Any, Self

from sqlalchemy import event

from receiptd.store import Store


class Statements:
    """Counts what the threads' engines of *store* say while the context lasts."""

    def __init__(self, store: Store) -> None:
        self._engines = set(store.threads.engines)
        self.said: list[list[str]] = []

    def __enter__(self) -> Self:
        for engine in self._engines:
            event.listen(engine, "begin", self._begin, insert=True)
            event.listen(engine, "before_cursor_execute", self._count)
        return self

    def __exit__(self, *_: object) -> None:
        for engine in self._engines:
            event.remove(engine, "begin", self._begin)
            event.remove(engine, "before_cursor_execute", self._count)

    def _begin(self, _: Any) -> None:
        self.said.append([])

    def _count(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            self.said[-1].append(statement)

    def per_commit(self) -> list[int]:
        """Return how many statements each transaction had."""
        return [len(one) for one in self.said]
