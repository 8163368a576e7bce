"""Telephone numbers: international, North American, and any behind a word that says so."""

import re
from collections.abc import Iterator
from functools import lru_cache

from tasks.clean.pii.numbers import Windows, within
from tasks.clean.pii.spans import WORD, Span, words

_INTERNATIONAL = re.compile(
    rf"(?<![{WORD}+/.=-])(?:\+|00)\s?\d(?:[ \t().\-/]{{0,3}}\d){{6,14}}(?!\d)"
)
_AMERICAN = re.compile(
    rf"(?<![{WORD}.+/=-])(?:1[-. ])?(?:\(\d{{3}}\)\s?|\d{{3}}[-. ])\d{{3}}[-. ]\d{{4}}(?![{WORD}-])"
)
_NUMBER = re.compile(rf"(?<![{WORD}])[(+]?\d(?:[ \t().\-/]{{0,3}}\d){{6,14}}(?!\d)")

# Words that stand before a telephone number, in lower case. Scripts without spaces are in SIGNS.
LABELS = words(
    """
    tel tels tél phone phones fon fono fone tfn tfno tlf tlfn tlfno ph puh puhelin puhelinnumero
    gsm mob móbil cell cellphone cel handy handynummer portable rufnummer durchwahl verde vert fax
    faks whatsapp viber sms hotline helpline landline switchboard hp ponsel đt sđt sdt thoại động
    komórka kom sími simi tālrunis simu fón guthán ffôn cep тел моб факс сот вотсап τηλ κινητό κιν
    φαξ هاتف الهاتف تلفون جوال الجوال موبايل فاكس تلفن موبایل همراه טלפון נייד פקס טל תל फ़ोन फ़ोन
    फोन मोबाइल दूरभाष ফোন போன் தொலைபேசி
    """
)
# Most languages say it in a word with one of these parts.
STEM = re.compile(
    r"(?:^|mobil|kontakt|auto|privat|haus|büro)(?:t[eé]l[eé]?f|t[eé]l[eé]ph|telep|telp|phone|"
    r"mobil|móv|movil|cel+ul"
    r"|телефон|мобил|мобіл|τηλέφ|τηλεφ)"
)
# Words that also stand before other numbers: behind these the number must begin as a telephone
# number does.
WEAK_LABELS = words(
    """
    call calling dial ring text reach my our his her appelez appeler joignable llame llamar
    llámanos llámenos llámame ligue rufen anrufen anruf rückruf chiama chiamare bel звоните звони
    contact contacts kontakt contacto contato contatto contatti iletişim kontakty port t m f p h w
    d o
    """
)
# What may stand between the label and the number.
QUALIFIERS = words(
    """
    us me moi nous sie mich uns
    now on at no nr num number numbers numéro numero número nummer numer n º office work
    home privat private dienstlich geschäftlich bureau bureaux travail maison domicile fijo fixe
    fisso main direct direkt general zentrale mobile mobil kom fax tel toll free or at is please
    auf unter an der die den au le al el o ou und and y i e och og para pour til na číslo szám
    номер по для
    """
)
SIGNS = re.compile(
    r"(?:[電电][話话]|携帯|手[机機]|直通|ファッ?クス|[传傳]真|座机|[热熱][线線]|フリーダイヤル|連絡先|合わせ先?|[联聯][系絡]方式"
    r"|客服|微信(?:同[号號])?|전화|휴대폰|휴대전화|핸드폰|연락처|팩스|โทร|มือถือ|แฟกซ์|[☎☏✆📞📱📠🕿🕾📲])"
    r"(?:番号|号码|號碼|号|번호|ศัพท์)?(?:は|は、|는|은|를|へ)?$"
)
_TOKENS = re.compile(
    r"[^\W\d_](?:[^\W\d_]|[\u0300-\u036f\u0900-\u097f\u0e30-\u0e4e])*|[☎☏✆📞📱📠🕿🕾📲]"
)
_GAP = re.compile(r"[\s.:=|/\\\-<>»→~#\"'()\[\]*°º•·،]{0,8}")
_DATE = re.compile(
    r"\(?(?:(?:1[5-9]|20)\d\d([-./ ])(?:0?[1-9]|1[0-2])\1(?:[0-2]?\d|3[01])(?!\d)"
    r"|(?:[0-2]?\d|3[01])([-./])(?:[0-2]?\d|3[01])\2(?:1[5-9]|20)\d\d(?!\d))"
)
_YEARS = re.compile(r"(?:(?:1[5-9]|20)\d\d[\s\-/]{0,3})+")
_DECIMAL = re.compile(r"\d{1,2}\.\d{5,}")
_LOCAL_AMERICAN = re.compile(r"(?:1[-. ])?(?:\(?\d{3}\)?[-. ])?\d{3}-\d{4}")
_THOUSANDS = re.compile(r"\d{1,3}(?:[ .]\d{3})+")
_CHINESE_MOBILE = re.compile(r"1[3-9]\d[ -]?\d{4}[ -]?\d{4}")
_IDEOGRAPH_BEFORE = re.compile(r"[\u4e00-\u9fff][\s:]{0,2}$")
_OTHER_SENTENCE = re.compile(r"[.!?;,\d\n]")
BETWEEN = (
    3  # words that may describe a label, where a colon follows them: `Telefon für Rückfragen:`
)
LOOK_BACK = 48  # characters before a number in which its label is sought


def phones(text: str, runs: Windows, before: str = "") -> Iterator[Span]:
    """Telephone numbers in a text. `before` is what a reader sees before it."""
    for match in within(_INTERNATIONAL, text, runs):
        number = match.group()
        if _valid("+" + number[2:] if number.startswith("00") else number, None):
            yield *match.span(), "phone"
    for match in within(_AMERICAN, text, runs):
        if _valid(match.group(), "US") and not _DATE.match(match.group()):
            yield *match.span(), "phone"
    for match in within(_NUMBER, text, runs):
        if _labelled(text, match, before):
            yield *match.span(), "phone"


@lru_cache(maxsize=1024)
def _valid(number: str, region: str | None) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


def _labelled(text: str, match: re.Match[str], before: str) -> bool:
    """Whether a label stands before a number that can be one."""
    number = match.group()
    if _DATE.match(number) or _YEARS.fullmatch(number) or _DECIMAL.fullmatch(number):
        return False
    tail = text[max(0, match.start() - LOOK_BACK) : match.start()]
    if match.start() < LOOK_BACK and before:
        tail = f"{before[-LOOK_BACK:]}\n{tail}"
    starts_as_one = number[0] in "0+("
    strength = label(tail)
    if strength == "weak":
        return starts_as_one or _LOCAL_AMERICAN.fullmatch(number) is not None
    if strength == "loose":
        return starts_as_one or not (number.isdigit() or _THOUSANDS.fullmatch(number))
    if strength == "strong":
        return True
    return bool(_CHINESE_MOBILE.fullmatch(number) and _IDEOGRAPH_BEFORE.search(tail))


def label(tail: str) -> str:
    """What the end of a text says of a number behind it.

    A `strong` label, a `loose` or a `weak` one, or nothing.
    """
    tokens = list(_TOKENS.finditer(tail))
    end = len(tail)
    for token in reversed(tokens):
        if not _GAP.fullmatch(tail, token.end(), end):
            return ""
        word = token.group().lower().replace("\u0307", "")  # of the Turkish capital I
        if _is_label(word):
            return "strong"
        if word not in QUALIFIERS:
            break
        end = token.start()
    else:
        return ""
    if _described(tail, tokens):
        return "loose"
    return "weak" if word in WEAK_LABELS else ""


def _is_label(word: str) -> bool:
    return word in LABELS or bool(STEM.match(word) or SIGNS.search(word))


def _described(tail: str, tokens: list[re.Match[str]]) -> bool:
    """Whether a colon ends the text, and a label stands a few words before it in its sentence."""
    if ":" not in tail[tokens[-1].end() :]:
        return False
    near = tokens[-1 - BETWEEN : -1]
    return any(
        _is_label(token.group().lower())
        and not _OTHER_SENTENCE.search(tail, token.end() + 1, tokens[-1].end())
        for token in near
    )
