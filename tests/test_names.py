"""Names of modules that would get in others' way."""

from __future__ import annotations

import sys
from pathlib import Path

import receiptd

EXEMPT = {
    "mailbox",  # DESIGN.md fixes it, and it is a package: Python run in its own folder doesn't find it
}


def test_no_module_is_named_like_one_of_the_standard_library() -> None:
    """Whoever runs Python in such a module's folder imports it instead of the standard library's."""
    folder = Path(receiptd.__file__).parent
    modules = {path for path in folder.rglob("*.py") if path.stem not in ("__init__", "__main__")}
    packages = {path.parent for path in folder.rglob("__init__.py")}
    clashing = {path.stem for path in modules | packages} & sys.stdlib_module_names
    assert clashing == EXEMPT, "rename what is new here, and take out of EXEMPT what is gone"
