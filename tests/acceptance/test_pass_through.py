"""What was handed over arrives as it was: signatures hold, and foreign characters stay themselves."""

from __future__ import annotations

from email import message_from_bytes, policy
from pathlib import Path

import dkim
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder
from trustme import CA

from tests.daemon_process import DaemonProcess
from tests.servers.world import World

pytestmark = pytest.mark.servers

# What careless software changes: trailing blanks, a lone dot, "From " at a line's start, raw UTF-8.
TEXT = (
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"Gr\xc3\xbc\xc3\x9fe aus \xc3\x96rebro  \r\n.\r\nFrom here on:\t\r\n\r\n-- \r\noffice\r\n"
)
PGP = (
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/signed; micalg=pgp-sha256;\r\n\tprotocol="application/pgp-signature"; boundary="=_x"\r\n'
    b"\r\nAn OpenPGP/MIME message (RFC 4880 and 3156)\r\n--=_x\r\n" + TEXT + b"\r\n--=_x\r\n"
    b'Content-Type: application/pgp-signature; name="signature.asc"\r\n\r\n'
    b"-----BEGIN PGP SIGNATURE-----\r\n\r\niHUEABYKAB0WIQ==\r\n=ab12\r\n-----END PGP SIGNATURE-----\r\n\r\n--=_x--\r\n"
)


def _headed(mark: str, content: bytes) -> bytes:
    header = f"From: office@a.test\r\nTo: bob@box.test\r\nSubject: signed\r\nMessage-ID: <{mark}@a.test>\r\n"
    return header.encode() + b"Date: Tue, 24 Nov 2026 09:30:00 +0000\r\n" + content


def _hand_over(daemon: DaemonProcess, message: bytes) -> None:
    done = daemon.send_with_receipt("-t", stdin=message)
    assert done.returncode == 0, done.stderr.decode()


def _arrived(world: World, mark: str, address: str = "bob@box.test") -> bytes:
    """Return what arrived with *mark* in it, its lines ended as they were on the wire."""
    return _on_the_wire(world.await_message(address, lambda message: mark.encode() in message))


def _on_the_wire(message: bytes) -> bytes:
    return message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _body(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


def _smime() -> bytes:
    leaf = CA().issue_cert("office@a.test")
    certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    assert isinstance(key, (EllipticCurvePrivateKey, RSAPrivateKey))
    builder = PKCS7SignatureBuilder().set_data(TEXT).add_signer(certificate, key, SHA256())
    return _on_the_wire(builder.sign(Encoding.SMIME, [PKCS7Options.DetachedSignature, PKCS7Options.Binary]))


@pytest.mark.parametrize(("mark", "content"), [("smime", _smime()), ("pgp", PGP)])
def test_a_signed_message_arrives_to_the_last_byte(
    daemon: DaemonProcess, world: World, mark: str, content: bytes
) -> None:
    sent = _headed(f"signed-{mark}", content)
    _hand_over(daemon, sent)
    arrived = _arrived(world, f"<signed-{mark}@")
    assert _body(arrived) == _body(sent)
    assert message_from_bytes(arrived)["Content-Type"] == message_from_bytes(sent)["Content-Type"]


def test_a_dkim_signature_still_verifies_at_the_recipient(daemon: DaemonProcess, world: World) -> None:
    key = generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    record = b"v=DKIM1; k=rsa; p=" + b"".join(public.splitlines()[1:-1])
    message = _headed("signed-dkim", b"MIME-Version: 1.0\r\n" + TEXT)
    fields = [b"from", b"to", b"subject", b"date", b"message-id"]
    signature = dkim.sign(
        message, b"s", b"a.test", private, include_headers=fields, canonicalize=(b"simple", b"simple")
    )
    _hand_over(daemon, signature + message)
    arrived = _arrived(world, "<signed-dkim@")
    assert dkim.verify(arrived, dnsfunc=lambda *_, **__: record)
    assert not dkim.verify(arrived.replace(b"here on", b"here"), dnsfunc=lambda *_, **__: record)


def test_a_blind_copy_arrives_and_nobody_sees_of_it(daemon: DaemonProcess, world: World) -> None:
    _hand_over(daemon, _headed("blind", b"Cc: carol@b.test\r\nBcc: alice@box.test\r\n\r\nPsst.\r\n"))
    for address in ("bob@box.test", "carol@b.test", "alice@box.test"):
        arrived = message_from_bytes(_arrived(world, "<blind@", address))
        assert (arrived["Bcc"], arrived["Cc"]) == (None, "carol@b.test")
        assert b"alice@box.test" not in arrived.as_bytes().partition(b"From: ")[2], "what we sent names her to nobody"


def test_foreign_characters_arrive_as_they_were_written(daemon: DaemonProcess, world: World, tmp_path: Path) -> None:
    attachment = tmp_path / "Größe – 大きさ.pdf"
    attachment.write_bytes(bytes(range(256)) * 8)
    subject = "Rechnung für Ørsted: 請求書 №7"
    options = ("-s", subject, "--header", "X-Mark: foreign-characters", "--attach", str(attachment))
    daemon.send("bob@box.test", text="Schöne Grüße\n.\n", options=options)
    arrived = message_from_bytes(_arrived(world, "foreign-characters"), policy=policy.default)
    assert arrived["Subject"] == subject
    [attached] = arrived.iter_attachments()
    assert (attached.get_filename(), attached.get_content()) == (attachment.name, attachment.read_bytes())
    text = arrived.get_body()
    assert text is not None
    assert text.get_content().replace("\r\n", "\n") == "Schöne Grüße\n.\n"
