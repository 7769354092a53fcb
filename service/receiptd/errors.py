"""The ways receiptd fails: each with one sentence for the person, an exit status and the bit permanent/transient."""

from __future__ import annotations

import os


class ReceiptdError(Exception):
    """A foreseeable fault; `str()` is one sentence that says what to do."""

    exit_status = os.EX_SOFTWARE
    permanent = True


class UsageError(ReceiptdError):
    """The command was called wrongly (sysexits 64)."""

    exit_status = os.EX_USAGE


class BadData(ReceiptdError):
    """What the user handed over can't be taken (65)."""

    exit_status = os.EX_DATAERR


class NoInput(ReceiptdError):
    """An input file isn't there or can't be read (66)."""

    exit_status = os.EX_NOINPUT


class Unavailable(ReceiptdError):
    """A service that is needed doesn't answer (69); trying again may help."""

    exit_status = os.EX_UNAVAILABLE
    permanent = False


class CantCreate(ReceiptdError):
    """A file or socket can't be made (73)."""

    exit_status = os.EX_CANTCREAT


class CantWrite(ReceiptdError):
    """What was asked for can't be written to where it shall go (74)."""

    exit_status = os.EX_IOERR


class TryLater(ReceiptdError):
    """Not now (75)."""

    exit_status = os.EX_TEMPFAIL
    permanent = False


class NotPermitted(ReceiptdError):
    """The caller has no right to this (77)."""

    exit_status = os.EX_NOPERM


class BadSettings(ReceiptdError):
    """The settings can't be used as they are (78); systemd must not start the unit again."""

    exit_status = os.EX_CONFIG
