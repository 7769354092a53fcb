"""Whether a host is this machine: what is sent there can't be read on the way, so it may go unencrypted."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether *host* is `localhost` or an address of the loopback interface: 127.0.0.0/8 or ::1, however written.

    Only what is valid as an address counts: `127.0.0.999` is a name, and DNS may send a name anywhere.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
