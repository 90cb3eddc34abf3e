"""Which language a text is in, as far as its script and its function words say. Pure.

It is for shares of many texts: what matters is that it always says the same of the same text. A short text without a
function word is ``unknown``, and that is a share too.
"""

from collections import Counter

from shared.profiles.text import words

_SCRIPTS = (
    ("hiragana-katakana", 0x3040, 0x30FF), ("hangul", 0xAC00, 0xD7AF), ("han", 0x4E00, 0x9FFF),
    ("cyrillic", 0x0400, 0x04FF), ("greek", 0x0370, 0x03FF), ("hebrew", 0x0590, 0x05FF), ("arabic", 0x0600, 0x06FF),
    ("devanagari", 0x0900, 0x097F), ("thai", 0x0E00, 0x0E7F),
)
_FUNCTION_WORDS = {
    "en": "the and is are of to in that it for you my was with this what how have not be can do i a on",
    "de": "der die das und ist nicht ich ein eine zu mit wie was auf für den dem von es wir sie mein kann im",
    "fr": "le la les et est de des un une je que pas pour dans vous mon ma sur qui ce au du comment avec",
    "es": "el la los las y es de un una que no por para en mi con cómo qué se del al lo está puedo",
    "it": "il lo la gli e è di un una che non per in mi con come cosa del della sono ho posso si al",
    "pt": "o a os as e é de um uma que não por para em meu minha com como se do da no na posso",
    "nl": "de het een en is niet ik van dat op te voor mijn met hoe wat zijn er kan naar aan je",
    "sv": "och är det att en ett jag inte som för på med hur vad min mitt kan den av till har",
    "pl": "i w nie się na z do jest to że jak co mój moja dla czy mam mogę o po za",
    "tr": "ve bir bu ne için değil ben çok mi mu da de ile var yok benim olarak",
}
_SETS = {language: frozenset(text.split()) for language, text in _FUNCTION_WORDS.items()}
UNKNOWN = "unknown"
LANGUAGES: tuple[str, ...] = (*_SETS, *(name for name, _, _ in _SCRIPTS), UNKNOWN)
_READ_CHARACTERS = 2_000


def language_of(text: str) -> str:
    """One of `LANGUAGES`; those in Latin script by their code, others by their script."""
    text = text[:_READ_CHARACTERS]
    script = _script(text)
    if script:
        return script
    found = words(text)
    scores = {language: sum(word in known for word in found) for language, known in _SETS.items()}
    best = max(scores.values())
    winners = [language for language, score in scores.items() if score == best]
    return winners[0] if best and len(winners) == 1 else UNKNOWN


def _script(text: str) -> str:
    """The script of most letters, where that is not Latin. Japanese is known by its kana, however few."""
    counts: Counter[str] = Counter()
    letters = 0
    for character in text:
        if character.isalpha():
            letters += 1
            counts[next((name for name, first, last in _SCRIPTS if first <= ord(character) <= last), "")] += 1
    if not letters:
        return ""
    if counts["hiragana-katakana"] * 10 >= letters:
        return "hiragana-katakana"
    name, count = max(counts.items(), key=lambda item: (item[1], item[0]))
    return name if count * 2 > letters else ""
