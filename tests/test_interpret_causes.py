"""What servers all over the world say, and the cause that a person reads instead."""

from __future__ import annotations

import pytest

from receiptd.facts import Cause
from receiptd.interpret import causes, codes

SAID = {
    Cause.USER_UNKNOWN: (
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient bob@c.org not found by SMTP address lookup",
        "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)",
        "550 Benutzer nicht bekannt/User unknown",
        "L'adresse du destinataire est introuvable",
        "No se encontró la dirección de correo del destinatario",
        "Endereço não encontrado",
        "L'indirizzo del destinatario non è stato trovato",
        "Het e-mailadres kan niet worden gevonden",
        "Mottagaren hittades inte",
        "Modtageren findes ikke",
        "Vastaanottajaa ei löydy",
        "Nie ma takiego użytkownika",
        "Neznámý uživatel",
        "Ismeretlen címzett",
        "Kullanıcı bulunamadı",
        "Получатель не найден",
        "该用户不存在",
        "無此使用者",
        "존재하지 않는 메일 주소입니다",
        "宛先のメールアドレスが見つかりませんでした",
    ),
    Cause.MAILBOX_FULL: (
        "550 Benutzer hat das Speichervolumen ueberschritten.",
        "550 Benutzer hat zuviele Mails auf dem Server. / User has too many messages on the server.",
        "La boîte aux lettres de votre correspondant est saturée",
        "La bandeja de entrada del destinatario está llena",
        "A caixa de correio do destinatário está cheia",
        "De mailbox van de ontvanger is vol",
        "Mottagarens postlåda är full",
        "Skrzynka pocztowa adresata jest pełna",
        "A címzett postaládája megtelt",
        "Почтовый ящик получателя переполнен",
        "メールボックスがいっぱいです",
        "收件人邮箱空间不足",
        "받는 사람의 메일 용량이 초과되었습니다",
    ),
    Cause.MAILBOX_DISABLED: (
        "550 5.2.1 This mailbox has been blocked due to inactivity",
        "554 5.7.1 Policy rejection on the target address: account is blocked for violation of the user agreement",
        "550 The account is frozen",
        "El buzón está deshabilitado",
        "Учетная запись получателя заблокирована",
    ),
    Cause.HOST_UNKNOWN: (
        "550 5.4.310 DNS domain c.org does not exist [Message=InfoDomainNonexistent]",
        "556 5.1.10 Recipient address has null MX",
        "Unrouteable address: all relevant MX records point to non-existent hosts",
        "Die Domain existiert nicht",
        "域名不存在",
    ),
    Cause.HOST_UNREACHABLE: ("Zeitüberschreitung bei der Verbindung", "Сервер получателя не отвечает", "连接超时"),
    Cause.TOO_BIG: (
        "Il messaggio è troppo grande",
        "Meddelelsen er for stor",
        "Размер письма превышает допустимый",
        "メッセージのサイズが大きすぎます",
        "邮件大小超过限制",
    ),
    Cause.RATE_LIMITED: (
        "450-4.2.1 The user is receiving email at a rate that prevents additional messages from being delivered.",
        "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address.",
        "450 4.7.1 Recipient address rejected: Please try later. You have been grey-listed",
        "451 4.7.500 Server busy. Please try again later",
        "550 Ip frequency limited.",
        "550 5.7.1 Daily sending quota exceeded",
    ),
    Cause.POLICY: (
        "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required; check failed",
        "550 Administrative prohibition - envelope blocked",
        "550-Verification failed for <me@a.org> 550-No Such User Here 550 Sender verify failed",
    ),
    Cause.AUTHENTICATION: (
        "550 5.7.515 Access denied, sending domain a.org doesn't meet the required authentication level.",
        "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
    ),
    Cause.BLOCKED: (
        "554 IP=192.0.2.1 - A problem occurred. Ask your postmaster or contact tosa@rx.t-online.de for reset.",
        "421 4.3.2 Your IP(192.0.2.1) is filtered and this connection will be closed.",
    ),
    Cause.SPAM: ("571 5.7.1 Message contains spam or virus or sender is blocked", "迷惑メールと判定されました"),
    Cause.CONTENT: (
        "552-5.7.0 This message was blocked because its content presents a potential security issue.",
        "554 5.7.1 The file attachment is banned: BANNED contents from you (.exe)",
    ),
    Cause.SECURITY: (
        "450 4.4.317 Cannot connect [Message=451 5.7.3 STARTTLS is required to send mail]",
        "TLS handshake failed: certificate has expired",
    ),
    Cause.PROTOCOL: (
        "message has lines too long for transport",
        "500 Line too long",
        "550 5.6.11 SMTPSEND.BareLinefeedsAreIllegal; message contains bare linefeeds",
    ),
    Cause.SYSTEM: ("451 4.3.0 <bob@c.org>: Temporary lookup failure",),
    Cause.RELAY_DENIED: (
        "550 not local host c.org, not a gateway",
        "550 5.7.1 <bob@c.org>... Relaying denied. Proper authentication required.",
    ),
}


@pytest.mark.parametrize(("cause", "said"), [(cause, said) for cause, texts in SAID.items() for said in texts])
def test_the_words_of_a_server_tell_the_cause_in_its_own_language(cause: Cause, said: str) -> None:
    status = next(iter(codes.statuses(said)), None)
    reply_code = next(iter(codes.reply_codes(said)), None)
    assert causes.of(said, status, reply_code) is cause


def test_full_storage_is_no_message_that_is_too_large() -> None:
    assert causes.of("452 4.3.1 no space for storage, disk full", "4.3.1", 452) is Cause.MAILBOX_FULL


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("450 4.3.2 <d@x.org>: Recipient address rejected: System is down for maintenance", Cause.SYSTEM),
        ("451 4.3.5 <d@x.org>: Recipient address rejected: Server configuration problem", Cause.SYSTEM),
        ("554 5.7.1 <d@x.org>: Recipient address rejected: Access denied", Cause.POLICY),
        ("550 5.7.1 <d@x.org>: Recipient address rejected: Policy rejection", Cause.POLICY),
        ("550 5.7.1 <d@x.org>: Recipient address rejected: Come in person", Cause.POLICY),
        ("450 4.7.1 <d@x.org>: Recipient address rejected: Greylisted, see http://x.org", Cause.RATE_LIMITED),
        (
            "450 4.1.1 <d@x.org>: Recipient address rejected: unverified address: Address verification in progress",
            Cause.RATE_LIMITED,
        ),
        (
            "550 5.1.1 <d@x.org>: Recipient address rejected: User unknown in local recipient table",
            Cause.USER_UNKNOWN,
        ),
        ("550 5.1.1 <d@x.org>: Recipient address rejected: x.org", Cause.USER_UNKNOWN),
        ("550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", Cause.USER_UNKNOWN),
        ("450 4.7.1 <a.org[192.0.2.1]>: Client host rejected: Server configuration problem", Cause.SYSTEM),
        ("450 4.7.1 Client host rejected: cannot find your hostname, [192.0.2.1]", Cause.BLOCKED),
        ("554 5.7.1 <a.org[192.0.2.1]>: Client host rejected: Access denied", Cause.BLOCKED),
        ("450 4.3.2 <me@a.org>: Sender address rejected: System is down for maintenance", Cause.SYSTEM),
        ("550 5.1.0 <me@a.org>: Sender address rejected: User unknown in virtual alias table", Cause.BLOCKED),
        ("450 4.1.8 <me@a.org>: Sender address rejected: Domain not found", Cause.BLOCKED),
        ("451 4.3.2 System not accepting network messages", Cause.SYSTEM),
    ],
)
def test_a_prefix_that_postfix_puts_before_any_words_says_nothing_itself(said: str, cause: Cause) -> None:
    status, reply_code = codes.statuses(said)[0], codes.reply_codes(said)[0]
    assert causes.of(said, status, reply_code) is cause
