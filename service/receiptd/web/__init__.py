"""The HTTP API over Unix sockets and TCP."""

from receiptd.web.api import create_app
from receiptd.web.house import House

__all__ = ["House", "create_app"]
