"""What schemathesis has to be told of us (its command imports this): complete messages, and Unix sockets."""

from __future__ import annotations

import os
import socket
from typing import Any

import schemathesis
import urllib3.util.connection

UNIX = "RECEIPTD_TEST_SOCKET"


@schemathesis.serializer("message/rfc822")
def as_it_is(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """Return a message from our office whose body is what was generated."""
    text = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
    return b"From: office@a.test\r\nTo: bob@b.test\r\nSubject: An invoice\r\n\r\n" + text


def _connect(
    address: object, timeout: object = None, source_address: object = None, socket_options: object = None
) -> socket.socket:
    """Connect to the Unix socket, whatever host and port the URL names."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout if isinstance(timeout, (int, float)) else 10)
    connection.connect(os.environ[UNIX])
    return connection


if UNIX in os.environ:
    urllib3.util.connection.create_connection = _connect
