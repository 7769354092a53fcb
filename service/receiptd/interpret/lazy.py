"""A property that is computed once, when first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class lazy(Generic[T]):  # noqa: N801  it reads as a decorator
    """`functools.cached_property` without the lock that it takes before Python 3.12."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__

    def __get__(self, instance: Any, _: type) -> T:
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
