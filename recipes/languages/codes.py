"""Which language a translator's locale or an identifier's code means, as ISO 639-3.

The targets are the declarations' own codes. A locale that is missing here has no target, and its
strings are dropped with that reason. Macrolanguages follow what the declarations use (est, lav).
"""

LOCALES: dict[str, str] = {
    "af": "afr", "am": "amh", "ar": "arb", "ast": "ast", "az": "azj", "be": "bel", "bg": "bul", "bn": "ben",
    "br": "bre", "bs": "bos", "ca": "cat", "ckb": "ckb", "cs": "ces", "cy": "cym", "da": "dan", "de": "deu",
    "el": "ell", "en": "eng", "eo": "epo", "es": "spa", "et": "est", "eu": "eus", "fa": "pes", "fi": "fin",
    "fr": "fra", "fu": "fur", "fy": "fry", "ga": "gle", "gd": "gla", "gl": "glg", "he": "heb", "hi": "hin",
    "hr": "hrv", "hsb": "hsb", "hu": "hun", "hy": "hye", "ia": "ina", "id": "ind", "ig": "ibo", "io": "ido",
    "is": "isl", "it": "ita", "ja": "jpn", "ka": "kat", "kk": "kaz", "km": "khm", "kn": "kan", "ko": "kor",
    "ky": "kir", "lb": "ltz", "lt": "lit", "lv": "lav", "mi": "mri", "mk": "mkd", "ml": "mal", "mn": "khk",
    "mr": "mar", "ms": "zlm", "my": "mya", "nb": "nob", "ne": "npi", "nl": "nld", "nn": "nno", "no": "nob",
    "os": "oss", "pa": "pan", "pl": "pol", "pt": "por", "rm": "roh", "ro": "ron", "ru": "rus", "sk": "slk",
    "sl": "slv", "sm": "smo", "sq": "als", "sr": "srp", "sv": "swe", "sw": "swh", "ta": "tam", "te": "tel",
    "tg": "tgk", "th": "tha", "tk": "tuk", "to": "ton", "tr": "tur", "tt": "tat", "ug": "uig", "uk": "ukr",
    "ur": "urd", "uz": "uzn", "vi": "vie", "zh": "cmn",
}

# What lid.176 calls a language, where it is not one of the locales above.
IDENTIFIER: dict[str, str] = {
    "als": "gsw", "ceb": "ceb", "co": "cos", "dsb": "dsb", "gn": "gug", "gu": "guj", "ht": "hat", "ilo": "ilo",
    "jv": "jav", "ku": "kmr", "la": "lat", "ln": "lin", "lo": "lao", "mg": "plt", "min": "min", "mt": "mlt",
    "mai": "mai", "nds": "nds", "oc": "oci", "pam": "pam", "pms": "pms", "pnb": "pnb", "ps": "pbu", "qu": "quz",
    "rm": "roh", "rue": "rue", "sa": "san", "sah": "sah", "sc": "src", "sco": "sco", "sd": "snd", "si": "sin",
    "so": "som", "su": "sun", "tl": "tgl", "tyv": "tyv", "vec": "vec", "vep": "vep", "wa": "wln", "war": "war",
    "wuu": "wuu", "yi": "ydd", "yo": "yor", "yue": "yue", "av": "ava", "ba": "bak", "bo": "bod", "bh": "bho",
    "cv": "chv", "dv": "div", "ce": "che", "fy": "fry", "kv": "koi", "lmo": "lmo", "lez": "lez", "new": "new",
    "scn": "scn", "sh": "srp", "xal": "xal", "nah": "nhn", "rup": "rup", "lij": "lij",
}


def locale(code: str) -> str | None:
    """The target of a locale such as pt_BR, zh_Hant_HK or sr@latn."""
    return LOCALES.get(code.replace("@", "_").replace("-", "_").split("_")[0].lower())


def identified(code: str) -> str | None:
    """The target of an identifier's code."""
    return IDENTIFIER.get(code) or LOCALES.get(code)
