"""How automata answer: out of office, challenges, dates of return, in a few lines of data each."""

from __future__ import annotations

import re

from receiptd.interpret.phrases import Phrases

AUTOMATIC_BEGINS = (
    "automatic reply", "automatic response", "automated reply", "automated response", "auto reply", "auto-reply",
    "autoreply", "auto response", "auto-response", "autoresponse", "autoresponder", "auto-responder", "[auto-reply",
    "[autoreply", "[auto reply", "[ooo]", "[oof]", "vacation auto", "vacation reply", "vacation message",
    "vacation notice", "holiday reply", "away message", "away notice", "out of office autoreply",
    "out of office reply", "abwesenheitsnotiz", "abwesenheitsmeldung", "abwesenheitsbenachrichtigung",
    "abwesenheitsassistent", "abwesenheitsnachricht", "automatische antwort", "automatische rückantwort",
    "automatische rueckantwort", "automatische nachricht", "autom. antwort", "réponse automatique",
    "reponse automatique", "réponse d'absence", "message d'absence", "notification d'absence", "avis d'absence",
    "respuesta automática", "respuesta automatica", "resposta automática", "resposta automatica",
    "resposta automàtica", "risposta automatica", "automatisch antwoord", "automatisch bericht",
    "afwezigheidsbericht", "afwezigheidsmelding", "autosvar", "frånvaromeddelande", "fraværsmelding",
    "fraværsbesked", "fraværsassistent", "automaattinen vastaus", "poissaoloilmoitus", "automatická odpov",
    "automatyczna odpowied", "odpowiedź automatyczna", "autoodpowied", "automatikus válasz", "răspuns automat",
    "automatski odgovor", "automaatvastus", "automātiska atbilde", "автоответ:", "автовідповід",
    "autoodpov", "autorespuesta", "autoresposta", "autorisposta", "autoválasz", "autovastus", "autocevap",
    "авто-ответ", "автоматичен отговор",
    "תגובה אוטומטית", "מענה אוטומטי", "رد تلقائي", "الرد التلقائي", "thư trả lời tự động", "trả lời tự động",
    "การตอบกลับอัตโนมัติ", "ตอบกลับอัตโนมัติ", "balasan otomatis", "jawaban automatik", "自動返信", "【自動返信",
    "自動応答", "不在通知", "不在のお知らせ", "自动回复", "自动答复", "自動回覆", "自動回復", "sjálfvirk",
    "automātiskā atbilde", "automātiski", "аутоматски", "автоматски одговор", "аўтаматычны адказ", "автоматты жауап",
    "avtomatik", "پاسخ خودکار", "خودکار", "स्वचालित", "स्वतः उत्तर", "ऑटो रिप्लाई", "ऑटोमैटिक",
    "erantzun automatikoa", "ateb awtomatig", "awtomatig", "freagra uathoibríoch", "freagairt uathoibríoch",
    "freagairt fhèin-ghluasadach", "resposta automatizada", "përgjigje automatike", "risposta awtomatika", "tweġiba",
    "תשובה אוטומטית", "הודעת היעדרות", "الرد الآلي", "رد آلي", "رد تلقائى", "إجابة تلقائية", "auto odgovor",
    "automatický odpov", "automatické odpov", "automatická správa", "automatická zpráva", "automatinė žinutė",
    "automatinis", "automaatne vastus", "automaatteade", "samodejn", "automatsko", "automatska poruka",
    "automatyczna wiadomość", "automatisches antwort", "autom. reply", "automated message", "automatic message",
    "autoreponse", "auto-antwort", "auto antwort", "automatisierte antwort", "autom. afwezigheid", "automatisk",
    "αυτόματη", "αυτόματο", "автоматическ", "автоматичн", "автоответчик:", "otomatik", "ავტომატური პასუხი",
    "ինքնաշխատ", "ավտոմատ պատասխան", "автоматтық жауап", "autotinis", "স্বয়ংক্রিয়", "தானியங்கி", "స్వయంచాలక",
    "ਸਵੈਚਲਿਤ", "آٹومیٹک", "jibu la kiotomatiki", "jibu otomatiki", "awtomatikong", "balasan automatik",
    "jawapan automatik", "mesej automatik", "phản hồi tự động", "tự động trả lời", "การตอบรับอัตโนมัติ",
    "ข้อความตอบกลับอัตโนมัติ", "ข้อความอัตโนมัติ", "自動回答", "自動返答", "自动应答", "自動應答", "自動答覆",
    "【自动回复", "[自动回复", "부재중 알림", "자동 답장", "자동답장", "자동 답변", "outomatiese antwoord",
    "자동 회신", "자동회신", "자동 응답", "자동응답", "부재 중 자동", "부재중 자동",
)  # fmt: skip
"""How subjects begin that say of themselves that a machine answers; a `Re:` before them doesn't count."""

AWAY_BEGINS = (
    "out of office", "out of the office", "out-of-office", "ooo", "oof", "away from my desk", "away from the office",
    "not in the office", "nicht im büro", "nicht im haus", "außer haus", "absence du bureau", "absent du bureau",
    "absent(e) du bureau", "hors du bureau", "fuera de la oficina", "fuera de oficina", "fora do escritório",
    "fora do escritorio", "fuori sede", "fuori ufficio", "assente dall'ufficio", "niet op kantoor",
    "ikke på kontoret", "ikke til stede", "inte på kontoret", "poissa toimistolta", "nieobecność w biurze",
    "poza biurem", "mimo kancelář", "mimo kanceláriu", "irodán kívül", "în afara biroului", "ofis dışında",
    "вне офиса", "нет на месте", "не в офисе", "поза офісом", "εκτός γραφείου", "מחוץ למשרד", "خارج المكتب", "不在",
    "外出", "부재중", "부재 중", "fjarverandi", "ekki við", "utan kontoret", "på semester", "tjänsteresa",
    "prombūtnē", "nav birojā", "nesu biure", "ne biure", "van kancelarije", "van ureda", "ван канцеларије",
    "надвор од канцеларија", "извън офиса", "izven pisarne", "odsoten", "kontorist väljas", "fora de l'oficina",
    "fora de l'despatx", "fóra da oficina", "bulegotik kanpo", "allan o'r swyddfa", "as oifig", "as an oifig",
    "jashtë zyrës", "barra mill-uffiċċju", "در دفتر نیستم", "خارج از دفتر", "दफ़्तर से बाहर", "कार्यालय से बाहर",
    "ไม่อยู่ที่สำนักงาน", "ngoài văn phòng", "vắng mặt", "di luar kantor", "di luar pejabat", "не на работа",
    "mimo kanceláře", "nejsem v kanceláři", "távol", "hors bureau", "absence du", "gone fishing",
    "no longer with the company", "no longer employed", "no longer works", "left the company",
    "απουσία", "ute av kontoret", "ute fra kontoret", "ude af kontoret", "ich bin nicht da", "non sono in ufficio",
    "no estoy en la oficina", "não estou no escritório", "nie ma mnie", "nejsem v", "меня нет", "мене немає",
    "nu sunt la birou", "ofiste değilim", "我不在", "不在办公室", "자리 비움", "limited availability",
    "ārpus biroja", "izvan ureda", "одсутан", "nėra biure",
    "nicht mehr im unternehmen", "nicht erreichbar", "ikke tilgjengelig", "niet bereikbaar", "niet aanwezig",
)  # fmt: skip
"""How subjects of answering machines begin, as a whole or before the subject that they answer."""

ABSENT_BEGINS = (
    "away", "vacation", "on vacation", "i'm on vacation", "holiday", "on holiday", "on leave", "on annual leave",
    "annual leave", "on parental leave", "on maternity leave", "maternity leave", "i am away", "i'm away",
    "i am out of", "i'm out of", "i will be out of", "i am currently out", "i am currently on leave",
    "i am on leave", "currently out of", "currently away", "abwesenheit", "abwesend", "ich bin nicht im",
    "ich bin derzeit nicht", "ich bin zurzeit nicht", "ich bin im urlaub", "ich bin außer", "im urlaub", "urlaub",
    "absent", "absence", "en congé", "en vacances", "je suis absent", "je suis en congé", "je suis en vacances",
    "estoy fuera", "estoy de vacaciones", "de vacaciones", "ausente", "ausencia", "ausência", "estou de férias",
    "de férias", "férias", "assente", "assenza", "sono in ferie", "in ferie", "sono fuori", "afwezig",
    "ik ben afwezig", "niet aanwezig", "met vakantie", "op vakantie", "frånvaro", "jag är på semester", "semester",
    "fravær", "ferie", "på ferie", "poissa", "nieobecno", "jestem na urlopie", "na urlopie", "nepřítomnost",
    "v nepřítomnosti", "dovolená", "házon kívül", "szabadság", "în concediu", "izinde", "tatilde", "отсутств",
    "я в отпуске", "в отпуске", "у відпустці", "σε άδεια", "休暇", "休假", "我正在休假", "휴가", "í fríi", "frí",
    "atvaļinājum", "atostog", "puhkus", "godišnji odmor", "na odmoru", "na godišnjem", "dopust", "на одмору",
    "одмор", "odmor", "отпуск", "в командировке", "командировк", "відпустк", "відсутн", "vacances", "vacanze",
    "in vacanza", "oporretan", "oporrak", "ar wyliau", "ar saoire", "pushime", "مرخصی", "إجازة", "في إجازة",
    "בחופשה", "חופשה", "छुट्टी", "अवकाश", "ลาพักร้อน", "ลาหยุด", "nghỉ phép", "cuti", "出差", "度假", "出張", "출장",
    "seyahatte", "yıllık izin", "not available", "unavailable", "i am unavailable", "travelling", "traveling",
    "sick leave", "krank", "elternzeit", "verlof", "ziek", "tjänstledig", "föräldraledig", "permisjon", "orlov",
    "indisponible", "no disponible", "nicht verfügbar", "niet beschikbaar", "non disponibile", "indisponível",
    "estoy de baja", "estoy de permiso", "niedostępn", "vacaciones", "vakantie", "concediu", "loma",
    "ferieavvikling", "άδεια", "i̇zin", "izin", "одсуство", "odsustvo",
    "sumarfrí", "gwyliau", "sabbatical", "meine abwesenheit", "sabático", "my absence", "mon absence",
    "barsel", "lomall", "urlop", "zwolnienie", "pto", "on pto",
)  # fmt: skip
"""Words that people too begin a subject with: they count in an answer or of an automaton, or before a colon."""

AWAY = Phrases("""
    out of office | out of the office | auto reply | auto-reply | autoreply | auto response | auto-response
    autoresponse | automatic reply | automatic response | abwesen | automatische antwort | vacation | außer haus
    im urlaub | absent | en congé | de vacaciones | fuera de | fora do | de férias | fuori | in ferie | afwezig
    réponse automatique | respuesta automática | resposta automática | risposta automatica | [ooo] | auto-responder
    autoresponder | отпуск | 自動 | 自动 | 不在 | 休假 | 休暇 | 자동 | 부재
""")
"""Words anywhere in the subject that count where an automaton says that it is one."""

CHALLENGE = Phrases("""
    confirm your message | confirm your email | confirm your e-mail | confirm that you | confirm delivery of
    confirm you sent | please confirm | requires your confirmation | requires confirmation
    requires your verification | requires verification | challenge-response | challenge response | verify that you
    verify you are | verify your message | verify your e-mail | verify your email | verify your identity
    prove that you are | prove you are | not a spammer | [boxbe] | spamarrest | spam arrest | boxtrapper | [tmda]
    knowspam | sender verification | awaiting your verification | awaiting verification | bestätigen sie
    being held until | held until you | held pending | mailblocks | whitelist request | approved senders
    confirmer votre envoi | confirme su mensaje | antispam * confirm | waitlisted | guest list so | mailinblack
    prove you're human | you are human | a real live human | spamblocker | tira-teima | clique aqui para confirmar
    merci de vous authentifier | demande d'authentification | vous êtes humain | confirmar que es humano
    junk mail * click the link | requires that you verify | confirm your address | verify your address
    dass sie ein mensch | klicken * link, um | um ihre nachricht zuzustellen | ihre adresse bestätigen
    cliquez sur le lien | en cliquant sur le lien | confirmer votre adresse | haga clic en el enlace
    confirme su dirección | cliccare sul link | clicca sul link | confermi il suo indirizzo | clique no link
    confirme o seu endereço | klik op de link | bevestig uw adres | klicka på länken | klik på linket
    klikk på lenken | kliknij w link | klikněte na odkaz | kattintson a | перейдите по ссылке | подтвердите, что
    リンクをクリックして | 点击链接 | 點擊連結 | 링크를 클릭 | bağlantıya tıkla
""")
"""Requests to prove that the sender is a person."""

RECEIPT_BEGINS = (
    "read:", "not read:", "deleted:", "read receipt", "return receipt", "gelesen:", "nicht gelesen:", "ungelesen:",
    "lesebestätigung", "empfangsbestätigung", "lu :", "lu:", "lue :", "non lu :", "non lu:", "non lue :",
    "accusé de lecture", "confirmation de lecture", "leído:", "leido:", "no leído:", "no leido:",
    "confirmación de lectura", "letto:", "non letto:", "conferma di lettura", "lida:", "lido:", "não lida:",
    "não lido:", "nao lida:", "confirmação de leitura", "gelezen:", "niet gelezen:", "ongelezen:", "leesbevestiging",
    "läst:", "oläst:", "läskvitto", "læst:", "ikke læst:", "ulæst:", "lest:", "ikke lest:", "ulest:", "luettu:",
    "ei luettu:",
    "przeczytano:", "odczytano:", "przeczytana:", "nie przeczytano:", "nieprzeczytane:", "přečteno:", "nepřečteno:",
    "olvasott:", "okundu:", "okunmadı:", "прочитано:", "прочтено:", "не прочитано:", "не прочтено:", "開封済み:",
    "既読:", "開封確認:", "未読:", "已读:", "已读：", "未读:", "未读：", "已讀:", "已讀：", "읽음:", "읽지 않음:",
)  # fmt: skip
"""How the subjects of read receipts begin that mail programs send as plain text."""

RECEIPT_SAYS = Phrases("""
    was read on | was read at | message was read | has been read | was deleted without being read
    deleted without being read | deleted unread | return receipt for the mail | was displayed on
    wurde * gelesen | ungelesen gelöscht | ohne gelesen | ohne, dass sie gelesen | angezeigt | a été lu | supprimé sans
    fue leíd | ha sido leíd | se leyó | se ha leído | eliminó sin | eliminado sin | è stato letto
    eliminato senza | foi lid | sem ser lid | sem ter sido lid | is gelezen | werd gelezen | zonder te zijn gelezen
    zonder gelezen | ongelezen verwijderd | lästes | har lästs | utan att läsas | utan att ha lästs | blev læst
    er blevet læst | uden at blive læst | ble lest | er lest | uten å bli lest | on luettu | luettiin | lukematta
    przeczytan | odczytan | usunięt* bez | byla přečtena | byla zobrazena | bez přečtení | elolvas | okundu | okunmadan
    было прочитано | было прочтено | прочитано | без прочтения | 開封されました | 読まれました | 開封せずに
    未開封 | 未読のまま | 已阅读 | 被阅读 | 阅读时间 | 未经阅读 | 未阅读 | 已讀取 | 읽었습니다 | 읽지 않고
""")
"""What such a receipt says for its reader, who has written none of it."""

_MONTH = r"[^\W\d_]{3,10}\.?"
_DATE = (
    r"(\d{4}-\d{2}-\d{2}|\d{1,2}\. ?\d{1,2}\. ?\d{2,4}|\d{1,2}[/-]\d{1,2}[/-]\d{2,4}"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.|er)? (?:of |de )?{_MONTH},? (?:de )?\d{{4}}"
    rf"|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})"
)
_WEEKDAY = r"(?:[^\W\d_]{2,13}\.?,? (?:den |dem |the |le |el |il )?)?"
_BEFORE = rf" (?:the |dem |den |le |el |il )?{_WEEKDAY}{_DATE}"
UNTIL = re.compile(
    r"\b(?:until|till|through|bis zum|bis einschließlich(?: zum)?|bis|jusqu'au|hasta el|fino al|tot en met|tot|t/m|até)"
    rf"{_BEFORE}",
    re.IGNORECASE,
)
"""Where a text states until when somebody is away."""

BACK = re.compile(
    r"\b(?:(?:back(?: (?:in|at) (?:the office|my desk|work))?|return(?:ing|s)?(?: to (?:the office|my desk|work))?"
    r"|available again|resume work)(?: on| from)?|return(?: date)?:"
    r"|(?:zurück|wieder)(?: da| hier| im büro| erreichbar)? (?:am|ab)(?: dem)?"
    r"|de retour le|de retour à partir du|retour le|de vuelta el|regreso el|rientro il|di ritorno il|terug op"
    rf"|volto em|de volta em|tillbaka den|tilbage den|tilbake den){_BEFORE}"
    rf"|\b(?:ab|am){_BEFORE}(?= (?:[^\W\d_]{{1,20}}+ ){{0,5}}(?:wieder|zurück|erreich))"
    rf"|\b(?:kehre|komme)(?: wieder)? (?:am|ab)(?: dem)?{_BEFORE}"
    rf"|\b(?:je reviens|je serai de retour|serai de retour|vuelvo|regresaré|volveré|rientrerò|tornerò)"
    rf"(?: (?:le|el|il|al lavoro il|a la oficina el|au bureau le|du congé le))?{_BEFORE}",
    re.IGNORECASE,
)
"""Where a text states from when somebody is back: it says more than until when they are away."""

MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan ene gen", "feb fév fev", "mar mär mrz maa", "apr avr abr", "may mai mag mei", "jun jui giu", "jul lug",
            "aug aoû aou ago", "sep set", "oct okt ott out", "nov", "dec dez déc dic",
        ),
        1,
    )
    for name in names.split()
}  # fmt: skip
"""The first three letters of the months in seven languages; juin and juillet differ in the fourth."""
