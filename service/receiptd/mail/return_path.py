"""The return path of one recipient's copy: the receipts address with the correlation token in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReturnPaths:
    """How our return paths are built: *address* and *subaddress* of settings `[receipts]`.

    `receipts@a.org` becomes receipts+TOKEN@a.org (`+`), receipts-TOKEN@a.org (`-`), TOKEN@receipts.a.org (`@`),
    or stays as it is where the provider allows no sub-address (``""``).
    """

    address: str
    subaddress: str

    @property
    def carry_token(self) -> bool:
        """Whether each recipient's copy has a return path of its own."""
        return bool(self.subaddress)

    def of(self, token: str) -> str:
        """Return the envelope sender (MAIL FROM) of the copy with *token*."""
        local, _, domain = self.address.rpartition("@")
        if not self.subaddress:
            return self.address
        return f"{token}@{local}.{domain}" if self.subaddress == "@" else f"{local}{self.subaddress}{token}@{domain}"
