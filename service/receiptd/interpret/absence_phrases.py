"""How answering machines speak where no field marks them: away, gone, moved, unattended, in a few lines each."""

from __future__ import annotations

import re

from receiptd.interpret.phrases import Phrases

SELF = frozenset(
    re.findall(
        r"\S+",
        """
    i'm i've i'll my me ich mein meine meinem meinen meiner meines mir mich estoy estaré mi yo estou estarei meu minha
    sarò mio mia ik mijn jag jeg mitt mina mig minun minulle minä ég jestem będę mój moja mnie jsem budu můj mě budem
    môj vagyok leszek engem címem benim bana я мой моя мне меня мене мій мені аз съм нисам мој είμαι λείπω μου nisam
    moj nisem minu esmu neesmu būšu mans esu nesu būsiu mano estic naiz nago rydw jam אני שלי tôi saya
""",
    )
)
SELF_TOLD = Phrases("""
    i am | i have | i will | i was | i get | i cannot | i could | i got | i sent | i tried | i see | i don't | i did
    i think | i need | i would | i just | je suis | je serai | je ne | je n'ai | j'ai | je reviens | mon adresse
    mon absence | mon mail | mon retour | ma nouvelle | ma boîte | he recibido | sono in | sono fuori | sono assente
    olen poissa | olen loma | som mimo | nie som | sunt plecat | sunt în | adresa mea | izindeyim | tatildeyim
    dışındayım | ја сам | ja sam | moj naslov | olen puhkusel | olen kontorist | soc fora | tá mé | 我正 | 我目前
    我在 | 我的 | 我将 | 我將 | 我已 | 我会 | 我會 | 我不 | 我现 | 我現 | 私は | 私の | 저는 | 제가 | أنا | لأنني
    إجازتي | بريدي | من در | نیستم | هستم | मैं | मेरे | मेरा | ฉัน | ผม
    me encuentro | encontro-me | tornerò | przebywam | wracam | wrócę | odpowiem
    nejsem | nebudu | odpovím | vrátím se | nie som | nebudem | vrátim sa | vagyok | leszek | válaszolok | nu voi
    voi reveni | mă aflu | voi răspunde | değilim | dışındayım | izinliyim | döneceğim | вернусь | отвечу | нахожусь
    перебуваю | повернуся | відповім | απουσιάζω | επιστρέψω | απαντήσω | βρίσκομαι | nalazim | vraćam | javit ću
    odgovorit ću | atbildēšu | atgriezīšos | atsakysiu | grįšiu | palaan | viibin | naasen
    dönünce | yanıt vereceğim
""")
_WORD = re.compile(r"(?<![\w.@'-])[\w']{1,20}+(?![@-]|\.\w)")

AWAY = Phrases("""
    out of the office | out of office | away from the office | away from my desk | not in the office | on vacation
    on holiday | on annual leave | on leave | on parental leave | on maternity leave | on sick leave
    currently unavailable | currently travelling | currently traveling | am travelling | am traveling | am away
    will be away | cannot be reached | limited access to | no access to my | not available until | back in the office
    gone fishing | due to illness | nicht im büro | nicht im haus | nicht am platz | außer haus | im urlaub
    in urlaub | abwesend | nicht erreichbar | nicht an meinem arbeitsplatz | in elternzeit | wieder erreichbar
    wieder im büro | wieder für sie da | erkrankt | absent du bureau | absente du bureau | suis absent | serai absent
    actuellement absent | en congé | en vacances | de retour le | hors du bureau | absent jusqu | fuera de la oficina
    de vacaciones | ausente | de baja | fora do escritório | de férias | fuori ufficio | fuori sede | in ferie
    assente | in vacanza | niet op kantoor | afwezig | met vakantie | op vakantie | niet aanwezig | niet bereikbaar
    met verlof | inte på kontoret | på semester | tjänstledig | föräldraledig | ikke på kontoret | på ferie
    ikke til stede | kan inte nås | poissa toimistolta | poissa toimistosta | lomalla | í fríi | ekki við
    ekki á skrifstofunni | na urlopie | poza biurem | nieobecn | mimo kancelář | mimo kancelár | na dovolené
    dovolenou | na dovolenke | nepřítom | neprítomn | házon kívül | szabadságon | irodán kívül | în concediu
    afara biroului | plecat din birou | izinde | ofis dışında | tatildeyim | вне офиса | нет в офисе | не в офисе
    отсутству | в командировке | у відпустці | поза офісом | відсутн | в отпуск | извън офиса | на одмор
    ван канцеларије | у канцеларији | во канцеларија | εκτός γραφείου | σε άδεια | λείπω | nisam u uredu
    nisam u kancelariji | na godišnjem | na odmoru | na dopustu | odsoten | odsotna | ni v pisarni | kontorist väljas
    puhkusel | ei ole kontoris | neesmu birojā | prombūtnē | atvaļinājum | nesu biure | atostog | fora de l'oficina
    de vacances | bulegotik kanpo | oporretan | allan o'r swyddfa | ar wyliau | as an oifig | as oifig | jashtë zyrës
    me pushime | barra mill-uffiċċju | 不在办公室 | 不在辦公室 | 休假 | 外出 | 出差 | 度假 | 不在にして | 休暇
    お休み | 출장 | 부재중 | 부재 중 | 휴가 | 자리를 비 | خارج المكتب | في إجازة | لأنني في | מחוץ למשרד | בחופשה
    در دفتر نیستم | در مرخصی | خارج از دفتر | कार्यालय से बाहर | अवकाश | छुट्टी | ไม่อยู่ที่สำนักงาน
    ไม่อยู่ที่ออฟฟิศ | ลาพักร้อน | vắng mặt | ngoài văn phòng | nghỉ phép | di luar kantor | sedang cuti
    luar pejabat | bercuti | will be out of | i'm off until | am off until | away until | away from work
    out of town | on a business trip | on sabbatical | return to the office | returning to the office
    returning to work | not checking my | not reading my | auf dienstreise | im krankenstand | im mutterschutz
    in mutterschutz | nicht zu erreichen | bin verreist | nicht im dienst | dienstlich unterwegs | keinen zugriff auf
    krankgeschrieben | in karenz | en déplacement | en arrêt maladie | pas joignable | serai de retour
    congé maternité | fuera de oficina | me encuentro fuera | estaré fuera | no estaré disponible | de viaje
    sin acceso a | em viagem | de licença | sem acesso ao | fuori dall'ufficio | in congedo | in malattia
    in trasferta | non sarò in ufficio | op zakenreis | ziekteverlof | zwangerschapsverlof | buiten kantoor
    geen toegang tot | bortrest | sjukskriven | mammaledig | pappaledig | har semester | holder ferie | har ferie
    bortrejst | bortreist | på barsel | i permisjon | har permisjon | på tjenestereise | en ole tavoitettavissa
    olen poissa | virkamatkalla | vanhempainvapaa | fjarverandi | í leyfi | í orlofi | przebywam na | przebywam poza
    nie ma mnie w | na zwolnieniu | w delegacji | služební cestě | nejsem v kanceláři | nebudu v kanceláři
    služobnej ceste | nem vagyok az irodában | távol vagyok | távol leszek | kiküldetés | nu sunt la birou
    nu voi fi la birou | sunt plecat | voi fi plecat | deplasare | ofiste değilim | ofiste olmay | yıllık izin
    izinliyim | seyahatte | меня нет | нет на месте | в командировке | на больничном | мене немає | у відрядженні
    на лікарняному | отсъствам | в командировка | απουσιάζω | δεν βρίσκομαι στο γραφείο | izvan ureda | odsutan
    odsutna | одсутан | одсутна | službenom putu | на службеном путу | na bolovanju | službeni poti | lähetuses
    kontorist ära | haiguslehel | ārpus biroja | komandējum | komandiruot | nėra biure | nebūsiu biure
    fora del despatx | estaré fora | de baixa | de vacacións | fóra da oficina | ez nago bulegoan | ez egongo naiz
    nid wyf yn y swyddfa | ddim yn y swyddfa | i ffwrdd o'r swyddfa | níl mé san oifig | nílim san oifig | 出張中
    不在となります | 不在のため | 休業 | 席を外して | 育休 | 産休 | 年假 | 请假 | 請假 | 不在公司 | 产假 | 부재
    휴무 | 휴직 | 연차 | في إجازة | خارج العمل | في مهمة | לא במשרד | לא נמצאת במשרד | לא נמצא במשרד | בחופש
    במילואים | در سفر | कार्यालय में नहीं | दफ़्तर में नहीं | यात्रा पर | đi công tác | tidak berada di kantor
    sedang dinas | bin nicht da | bin ich nicht da | nur eingeschränkt erreichbar | nur sporadisch | på reise
    på resande fot | ute av kontoret | ute fra kontoret | ude af kontoret | begrenset tilgang | begränsad tillgång
    begrænset adgang | обмежений доступ | ограничен доступ | ограниченный доступ | accès limité | acceso limitado
    accesso limitato | acesso limitado | beperkte toegang | ograniczony dostęp | omezený přístup
    acces limitat | απουσία μου | εκτός του γραφείου | sınırlı erişim
    sabbatical | paternity leave | family leave | elternurlaub | congé paternité | concediu | إجازة
    the week off | the day off | days off | covering for me | cover for me | lese ich keine | lese keine
""")
"""What says that somebody is away."""

GONE = Phrases("""
    no longer with | no longer work | no longer employed | no longer at | no longer an employee | no longer part of
    has left | have left | left the company | left our company | left the organi | left the firm | retired
    nicht mehr im unternehmen | nicht mehr in unserem | nicht mehr bei | ausgeschieden | nicht mehr * tätig
    nicht mehr beschäftigt | verlassen | ne fait plus partie | ne travaille plus | a quitté | ya no trabaja
    ya no forma parte | já não trabalha | não trabalha mais | não faz mais parte | deixou a | non lavora più
    non fa più parte | ha lasciato | niet meer werkzaam | werkt niet meer | niet langer werkzaam | uit dienst
    har slutat | arbetar inte längre | jobbar inte längre | er fratrådt | er stoppet | arbejder ikke længere
    har sluttet | jobber ikke lenger | arbeider ikke lenger | ei työskentele enää | nie pracuje | odszedł
    již nepracuje | už nepracuje | už u nás nepracuje | már nem dolgozik | nu mai lucrează | artık çalışm | ayrılmış
    больше не работает | уволил | більше не працює | вече не работи | δεν εργάζεται πλέον | više ne radi | ne dela več
    ei tööta enam | vairs nestrādā | nebedirba | ja no treballa | 已离职 | 已離職 | 不再任职 | 退職 | 퇴사 | 퇴직
    لم يعد يعمل | אינו עובד | לא עובד יותר | đã nghỉ việc | tidak lagi bekerja
""")
"""What says that somebody has left for good."""

MOVED = Phrases("""
    new address | new e-mail | new email | address has changed | address changed | changed my | changed our
    no longer in use | update your address | neue adresse | neue e-mail | neue mail | adresse hat sich geändert
    adresse geändert | nouvelle adresse | changé d'adresse | changement d'adresse | nueva dirección | nuevo correo
    cambiado de | novo endereço | novo e-mail | nuovo indirizzo | nuova email | nuova e-mail | nieuw e-mailadres
    nieuw adres | nieuwe e-mail | ny adress | ny e-post | ny e-mail | ny mail | uusi osoite | uusi sähköposti
    nowy adres | nová adresa | novou adresu | nový e-mail | új cím | új e-mail | nouă adres | noua adres | yeni adres
    yeni e-posta | новый адрес | нова адрес | нов адрес | νέα διεύθυνση | nova adresa | nov naslov | uus aadress
    jaunā adrese | naujas adresas | 新邮箱 | 新地址 | 新的邮箱 | 新的電子郵件 | 新しいアドレス | 新しいメール
    アドレスが変わ | 새 이메일 | 새 메일 | العنوان الجديد | כתובת חדשה | địa chỉ mới | alamat baru
""")
"""What tells a new address: it isn't the one that failed."""

UNATTENDED = Phrases("""
    unmonitored | not monitored | isn't monitored | no longer monitored | unattended | not checked | unbeaufsichtigt
    nicht überwacht | nicht gelesen | nicht betreut | n'est pas surveill | n'est pas consult | n'est pas lue
    no se supervisa | no es atendid | no está atendid | não é monitorad | non presidiat | non monitorat
    non viene letta | niet gelezen | niet gemonitord | inte bevakad | bevakas inte | overvåges ikke | overvåkes ikke
    ei seurata | ei lueta | nie jest monitorowan | nie jest czytan | není sledov | nem figyel | izlenmemektedir
    не отслежива | не проверя | не читает | 无人值守 | 不受监控 | 送信専用 | 发送专用 | 발신 전용 | 发信专用
""")
"""What says that nobody reads what comes to an address."""

CONTACT = Phrases("""
    contact | write to | reach | send it to | resend it | please use | use the | please send | please resend
    e-mail to | instead | can help | took over | taken over | replaced by | übernommen | a repris | get in touch
    forwarded to | questions | support | assistance | wenden | erreichen | benutzen | nutzen sie
    schreiben sie | richten sie | direct enquiries | direct inquiries
    senden sie | schicken sie | vertretung | weitergeleitet | fragen | joindre | écrire | écrivez | adresser | envoyer
    envoyez | utiliser | utilisez | transmis à | escriba | escribir | envíe | enviar | utilice | dirija | diríjase
    escreva | envie | utilize | scriva | scrivere | scrivete | contatt | inviare | inviate | rivolg | utilizz
    terecht bij | gebruik | stuur | mail naar | skicka | använd | kan hjälpa | kontakt | henvend | skriv | brug | bruk
    send til | kan hjelpe | kan hjælpe | yhteyttä | lähetä | käytä | pisać | proszę kierować | napisz | pište
    obraťte | obracejte | použijte | píšte | forduljon | írjon | küldje | használja | scrieți | folosiți | trimiteți
    yazın | ulaşın | kullanın | gönderin | пишите | обращайтесь | отправ | свяж | використов | пишіть | звертайтеся
    пишете | обърнете | επικοινων | γράψτε | στείλτε | pišite | obratite | javite | obrnite | kirjuta | pöördu
    saatke | rakstiet | sazinieties | rašykite | kreipki | escriviu | idatzi | cysylltwch | skrifaðu | hafðu samband
    联系 | 聯絡 | 聯繫 | 发送至 | 发送到 | 请使用 | 請使用 | ご連絡 | お願いします | お問い合わせ | までお | 연락
    문의 | 보내 주 | التواصل | يرجى الاتصال | פנו | צרו קשר | تماس | संपर्क | ติดต่อ | liên hệ | hubungi | silakan
""")
"""Sentences that name whom to write to instead."""

COURTESY = Phrases("""
    thank you for your | thanks for your | urgent | in my absence | limited access | as soon as | on my return
    when i return | when i am back | when i'm back | will return | please contact | contact my | immediate assistance
    vielen dank für ihre | danke für ihre | danke für deine | dringend | wenden sie sich | meine vertretung
    wird nicht weitergeleitet | nach meiner rückkehr | sobald wie möglich | schnellstmöglich | merci pour votre
    merci de votre | urgence | merci de contacter | à mon retour | dès mon retour | veuillez contacter
    gracias por su | gracias por tu | urgencia | a mi regreso | a mi vuelta | póngase en contacto | obrigado pela
    obrigada pela | obrigado por | urgência | no meu regresso | grazie per | urgenz | al mio rientro | contattare
    bedankt voor | spoed | bij terugkomst | contact opnemen | tack för dit | brådskande | när jag är tillbaka
    tak for din | hastende | haster | takk for din | kontakt | kiitos viestistäsi | dziękuję za | pilnych | pilne
    po powrocie | děkuji za | naléhav | po návratu | ďakujem za | naliehav | köszönöm | köszönjük | sürgős | visszatér
    mulțumesc pentru | teşekkür | acil | спасибо за | срочн | по возвращении | дякую за | термінов | спешн | благодаря
    ευχαριστώ | επείγο | hvala na | hitn | nujn | aitäh | kiire | paldies | steidzam | ačiū | skub | gràcies per
    eskerrik asko | premiazko | 感谢您 | 谢谢您 | 感謝您 | 紧急 | 緊急 | 请联系 | 請聯絡 | ありがとうございます
    お急ぎ | ご連絡ください | 감사합니다 | 급한 | 긴급 | 연락 | شكر | عاجل | תודה על | דחוף | متشکر | فوری | धन्यवाद
    戻り次第 | 帰社後 | 回来后 | 返回后 | 回來後 | 돌아와서 | 복귀 후
    ขอบคุณ | เร่งด่วน | cảm ơn | khẩn | terima kasih | mendesak | segera
""")
"""What answering machines say besides: thanks, when, and whom to ask instead."""

AUTOMATIC = Phrases("""
    this is an automat | this is an auto- | this is a system generated | this is a system-generated
    this e-mail was generated automatically | this email was generated automatically
    this message was generated automatically | this message was created automatically | automatically generated
    automatic reply to your | automated reply | automated response | automated message | auto-generated message
    auto-generated email | do not reply to this | please do not reply | please don't reply | reply above this line
    automatisch generierte | automatisch erzeugt | automatisch erstellt | automatische antwort auf
    bitte antworten sie nicht | bitte nicht antworten | bitte nicht auf diese | message automatique
    généré automatiquement | envoyé automatiquement | réponse automatique à | merci de ne pas répondre
    ne pas répondre à | ne répondez pas à | mensaje automático | generado automáticamente | respuesta automática a
    no responda a | por favor no responda | mensagem automática | gerada automaticamente | não responda
    messaggio automatico | generato automaticamente | risposta automatica al | non rispondere a
    si prega di non rispondere | automatisch gegenereerd | automatisch bericht | niet beantwoorden
    niet op deze e-mail | automatiskt genererat | automatiskt meddelande | svara inte på | automatisk genereret
    automatisk generert | svar ikke på | automaattinen viesti | älä vastaa | automaattisesti
    wygenerowana automatycznie | wiadomość automatyczna | nie odpowiadaj | prosimy nie odpowiadać
    generována automaticky | automaticky generovan | neodpovídejte | neodpovedajte | automatikusan generált
    automatikus üzenet | ne válaszoljon | generat automat | nu răspundeți | otomatik olarak | yanıtlamayınız
    автоматически сформирован | создано автоматически | автоматическое сообщение | не отвечайте на | автоматично
    не відповідайте | αυτόματο μήνυμα | μην απαντ | automatska poruka | ne odgovarajte | 系统自动 | 系統自動
    自动发送 | 自动生成 | 請勿回覆 | 请勿回复 | 自動送信 | 自動的に送信 | 自動配信 | 返信しないで | 자동으로 발송
    자동 발송 | 회신하지 마 | رسالة آلية | تم إنشاء هذه الرسالة تلقائ | נשלחה באופן אוטומטי | הודעה אוטומטית | tự động
    อัตโนมัติ | secara otomatis | mesej automatik | your request has been received | your ticket number
    ticket has been created | ticket number is | we have opened a ticket | case number is | ihre ticketnummer
    ticket eröffnet | numéro de ticket | número de ticket | numero di ticket
    sent automatically | automatisch gesendet | automatisch versendet | automatisch verschickt
    enviado automáticamente | enviada automaticamente | inviato automaticamente | automatisch verzonden
    skickats automatiskt | sendt automatisk | lähetetty automaattisesti | wysłana automatycznie | wysłano automatycznie
    odeslána automaticky | отправлено автоматически | надіслано автоматично
""")
"""What says of itself that no person wrote it."""


def is_personal(plain: str) -> bool:
    """Whether somebody writes about themselves, or about someone who has left or moved.

    No gateway does; a company says `we`.
    """
    if not SELF.isdisjoint(_WORD.findall(plain)):
        return True
    return any(table.are_in(plain) for table in (SELF_TOLD, GONE, MOVED))


def is_away(plain: str) -> bool:
    """Whether somebody who writes about themselves is away."""
    return AWAY.are_in(plain) and is_personal(plain)
