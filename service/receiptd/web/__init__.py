"""The HTTP API over Unix sockets and TCP."""

from receiptd.web.api import create_app
from receiptd.web.context import AppContext

__all__ = ["AppContext", "create_app"]
