"""A program under the unit's own SystemCallFilter, RestrictAddressFamilies and MemoryDenyWriteExecute, without systemd.

Run as a module: the names of the system calls as JSON, then the program and its words. systemd builds its filter
with libseccomp in the same way; what it forbids fails with EPERM (SystemCallErrorNumber=).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EQUAL = 4
_NO_NEW_PRIVILEGES, _MEMORY_DENY_WRITE_EXECUTE = 38, 65
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

Expand = Callable[[str], Iterable[str]]


def allowed(lines: Iterable[str], expand: Expand) -> set[str]:
    """Return the system calls that SystemCallFilter=*lines* leave; the first makes it a list of what is allowed."""
    names = set(expand("@default"))
    for line in lines:
        listed = {name for word in line.removeprefix("~").split() for name in expand(word)}
        names = names - listed if line.startswith("~") else names | listed
    return names


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("other", ctypes.c_uint64),
    )


def _lock_in(names: Iterable[str]) -> None:
    library, kernel = ctypes.CDLL("libseccomp.so.2"), ctypes.CDLL(None, use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    kernel.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    kernel.prctl(_MEMORY_DENY_WRITE_EXECUTE, 1, 0, 0, 0)  # Linux 6.3; before, systemd has a filter of its own
    rules = ctypes.c_void_p(library.seccomp_init(_ERRNO | errno.EPERM))
    for name in sorted(names):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            continue  # another machine's
        for comparisons in _comparisons(name):
            count = len(comparisons)
            array = (_Comparison * count)(*comparisons)
            if library.seccomp_rule_add_array(rules, _ALLOW, number, count, array):
                raise OSError(f"the filter doesn't take {name}")
    if refused := library.seccomp_load(rules):
        raise OSError(-refused, os.strerror(-refused))


def _comparisons(name: str) -> list[list[_Comparison]]:
    return [[_Comparison(0, _EQUAL, family, 0)] for family in _FAMILIES] if name == "socket" else [[]]


if __name__ == "__main__":
    _lock_in(json.loads(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
