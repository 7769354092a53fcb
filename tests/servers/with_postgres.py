"""Run a command with the URL of an empty database on a private PostgreSQL: python -m tests.servers.with_postgres CMD…

The command gets `--database URL` at its end. The server is the one the tests use, and goes with the command.
"""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.servers.postgres import Postgres, why_no_postgres


def main(command: list[str]) -> int:
    """Return the command's status, or 69 where PostgreSQL can't run here."""
    if (reason := why_no_postgres()) is not None:
        print(f"PostgreSQL can't run here: {reason}. Name one with --database postgresql://…", file=sys.stderr)
        return 69
    server = Postgres()
    try:
        server.start()
        return _run([*command, "--database", server.empty_database()])
    finally:
        server.close()


def _run(command: list[str]) -> int:
    """Run it to its end: Ctrl-C reaches it by itself, a SIGTERM through us."""
    signal.signal(signal.SIGINT, lambda *_: None)
    with subprocess.Popen(command) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
