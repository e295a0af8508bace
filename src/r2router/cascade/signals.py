"""Signals of an answer's text: fixed numbers, some of its words, and the value that it gives as its answer.

Only the beginning and the end of a text are read, so that time is bounded for any length.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections.abc import Iterable

import numpy as np

from r2router.final_answer import bare_forms, final_answers, first_line
from r2router.types import FloatArray, IntArray

_BEGIN, _END = 3_000, 1_500  # characters that are looked at
WORDS = 40
"""Words of an answer that are compared with other answers."""

# in lower case
_HEDGE = re.compile(
    r"""\b(?:not\ (?:sure|certain|aware|available|specified|publicly|enough)|unsure|uncertain|unclear|might|may\ have|possibly|probably
    |perhaps|likely|appears?|seems?|i\ (?:think|believe|guess)|approximately|around|as\ of\ my|verify|would\ need|however
    |vielleicht|vermutlich|wahrscheinlich|möglicherweise|unsicher|nicht\ sicher|ich\ (?:glaube|denke)
    |nicht\ (?:ganz|völlig)\ sicher
    |peut-être|probablement|sans\ doute|incertain|pas\ (?:s[ûu]re?|certaine?)|je\ (?:crois|pense)
    |quizás?|tal\ vez|probablemente|posiblemente|no\ estoy\ segur[oa]|creo\ que
    |forse|probabilmente|non\ (?:ne\ )?sono\ (?:sicur|cert)[oa]|credo\ che|talvez|provavelmente|não\ tenho\ certeza|acho\ que
    |возможно|вероятно|наверное|не\ уверена?|мабуть|можливо|не\ впевнен(?:ий|а)
    |misschien|waarschijnlijk|niet\ (?:helemaal\ )?zeker|kanske|förmodligen|osäker|kanskje|måske|sannsynligvis|usikker
    |prawdopodobnie|być\ może|nie\ jestem\ pew(?:ien|na)|pravděpodobně|nejsem\ si\ jist[ýá]
    |belki|muhtemelen|sanırım|emin\ değilim|mungkin|tidak\ yakin|có\ lẽ|không\ chắc)\b
    |可能|也许|也許|大概|不确定|不確定|不清楚|不太清楚|かもしれ|おそらく|たぶん|아마|확실하지
    |ربما|لست\ متأكد|غير\ متأكد|शायद|संभवतः|यकीन\ नहीं|อาจจะ|ไม่แน่ใจ|אולי|לא\ בטוח|ίσως|δεν\ είμαι\ σίγουρ""",  # noqa: RUF001 - other languages' letters look like ours
    re.VERBOSE,
)
_REFUSAL = re.compile(
    r"""\b(?:cannot|can(?:'|\u2019)t|unable|could\ ?n(?:o|'|\u2019)t|(?:don|didn)(?:'|\u2019)t\ (?:have|know|find|recall|remember)
    |do\ not\ (?:have|know|recall|remember)|won(?:'|\u2019)t\ (?:answer|guess|speculate)|must\ decline
    |no\ (?:idea|information|record|records|data|reliable|specific|evidence)|unknown|insufficient|sorry|apolog\w{1,6}
    |not\ (?:known|found|possible|able|familiar)
    |kann\ (?:[\w]{1,20}\ ){0,4}nicht|wei(?:ß|ss)\ (?:ich\ )?(?:es\ )?nicht|nicht\ bekannt|tut\ mir\ leid
    |keine\ (?:informationen|angaben|daten)|unbekannt|leider
    |ne\ (?:sais|peux|dispose)\b.{0,12}pas|n'ai\ (?:pas|aucune)|l'ignore|aucune\ information|inconnu|désolée?
    |no\ (?:lo\ )?(?:sé|puedo|tengo|dispongo)|desconocid[oa]|lo\ siento
    |non\ (?:lo\ )?(?:so|saprei|posso|ho\ informazioni)|sconosciut[oa]|mi\ dispiace
    |não\ (?:o\ )?(?:sei|posso|tenho)|desconhecid[oa]|desculpe|lamento
    |не\ (?:знаю|могу|можу)|нет\ (?:данных|информации)|немає\ (?:даних|інформації)|неизвестно|невідомо|извините|вибачте
    |weet\ (?:ik\ )?(?:het\ )?niet|kan\ (?:ik\ )?(?:[\w]{1,20}\ ){0,3}niet|geen\ (?:informatie|gegevens)|onbekend|het\ spijt\ me
    |nie\ (?:wiem|mogę|potrafię)|brak\ (?:informacji|danych)|przepraszam|nevím|nemohu|omlouvám
    |(?:vet|kan)\ inte|ved\ ikke|vet\ ikke|kan\ ikke|tyvärr|dessverre|desværre
    |bilmiyorum|bilgim\ yok|üzgünüm|tidak\ (?:tahu|bisa|dapat)|maaf|không\ (?:biết|thể)|xin\ lỗi)\b
    |不知道|无法|無法|沒有|没有(?:信息|相关|找到)|抱歉|わかりません|分かりません|知りません|できません|情報がありません|不明|申し訳
    |모르|알\ 수\ 없|할\ 수\ 없|죄송
    |لا\ (?:أعرف|أعلم|أستطيع|يمكنني)|ليس\ لدي|عذر|आसف|नहीं\ (?:पता|जानता|जानती|बता|मालूम)|माफ़|क्षमा
    |ไม่ทราบ|ไม่รู้|ขออภัย|לא\ יודע|מצטער|δεν\ (?:γνωρίζω|ξέρω|μπορώ)|λυπάμαι""",
    re.VERBOSE,
)
_MIN_LOGPROB = -10.0  # of a token, on average
_WORD = re.compile(r"\w+")
_CUT = frozenset({"length", "max_tokens", "forced", "max_output_tokens", "token_limit"})
_COMMON_WORDS = """
the a an of in on at to and or was is were are be been by for with as it its this that
his her he she they from not which who what also answer final therefore so thus der die das und ist le la les
de du et est el los y es il e o um uma
"""
_COMMON = frozenset(_COMMON_WORDS.split())
NAMES = (
    "log characters",
    "log words",
    "log tokens",
    "tokens over forecast",
    "tokens above forecast",
    "doubts",
    "doubt",
    "refusal",
    "new words",
    "digits",
    "log digits",
    "lines",
    "emphasis",
    "marked answer",
    "cut",
    "log-probability",
)
"""What the numbers of an answer are. The last one is the mean log-probability per token, NaN where it is not known:
most endpoints do not give it.
"""


def ends(text: str) -> str:
    """Return the beginning and the end of a long text."""
    return text if len(text) <= _BEGIN + _END else f"{text[:_BEGIN]}\n{text[-_END:]}"


def words_of(text: str) -> list[str]:
    """Split a text (its beginning and its end) into lower-case words; scripts without spaces into characters."""
    found = _WORD.findall(unicodedata.normalize("NFKC", ends(text)).casefold())
    return [part for word in found for part in (word if len(word) > 1 and ord(word[0]) > _NO_SPACES else (word,))]


_NO_SPACES = 0x2E80  # from here on: Chinese, Japanese, Korean


def numbers_of(
    question_words: frozenset[str],
    text: str,
    tokens: float,
    expected: float,
    finish_reason: str,
    logprob: float = math.nan,
) -> list[float]:
    """Return the numbers that `NAMES` lists; NaN for tokens or log-probabilities that are not known.

    tokens, expected: output tokens, used and forecast.
    """
    part = ends(text)
    lower, words = part.lower(), words_of(text)  # patterns that ignore case are twice as slow
    new = sum(word not in question_words for word in words)
    doubts = sum(1 for _, _ in zip(_HEDGE.finditer(lower), range(5), strict=False))
    digits = sum(c.isdigit() for c in part)
    usual = math.log(max(expected, 1.0)) if expected > 0 else 0.0
    used = math.log(max(tokens, 1.0)) if tokens >= 0 else usual
    return [
        math.log1p(len(text)) / 5,
        math.log1p(len(words)) / 4,
        used / 6,
        used - usual,
        max(used - usual, 0.0),
        doubts / 2,
        float(doubts > 0),
        float(_REFUSAL.search(lower) is not None),
        new / max(len(words), 1),
        float(digits > 0),
        math.log1p(digits) / 2,
        float("\n" in part.strip()),
        float("**" in part),
        float("answer" in part.casefold() or "\\boxed" in part),
        float(finish_reason.casefold() in _CUT),
        min(max(logprob, _MIN_LOGPROB), 0.0) if math.isfinite(logprob) else math.nan,
    ]


def key_words(question_words: frozenset[str], text: str) -> IntArray:
    """Return (WORDS,) uint32 hashes of words that the answer has and the question has not, the last ones first; 0 for
    none.
    """
    words = dict.fromkeys(words_of(text))
    kept = [w for w in words if w not in question_words and w not in _COMMON] or list(words)
    if len(kept) > WORDS:
        kept = [*kept[: WORDS // 2], *kept[-WORDS // 2 :]]
    found = np.zeros(WORDS, dtype=np.uint32)
    found[: len(kept)] = [_hash(w) for w in kept]
    return found


def value_of(text: str) -> int:
    """Return a hash of the value that the text gives as its answer; 0 where none is marked and the text is not
    short.
    """
    part = ends(text)
    found = next(final_answers(part), None)
    said = first_line(found or part)[:200]
    if not found and (len(said.split()) > _SHORT or len(part.strip()) > len(said) + 2):
        return 0
    if number := _NUMBER.fullmatch(said.strip().strip("*_").rstrip(".")):
        whole, rest = re.sub("[{},]", "", number["whole"]).lstrip("0"), (number["rest"] or "").rstrip("0").rstrip(".")
        return _hash(f"{number['sign']}{whole or '0'}{rest}".replace("\u2212", "-"))
    forms = bare_forms(said)
    return _hash(min(forms, key=lambda form: (len(form), form))) if said else 0


_SHORT = 8  # words
_NUMBER = re.compile(
    r"(?:[^\W\d_][^\d:\uff1a=]{0,30}[:\uff1a=]\s{0,4})?[*_]{0,2}\$?(?:\\\()?(?P<sign>[-\u2212]?)"
    r"(?P<whole>\d{1,3}(?:(?:,|\{,\})\d{3})+|\d{1,40})(?P<rest>\.\d{1,40})?(?:\\\))?\$?"
)
"""A number, alone or behind the name of what it is, as it is written in one language or another."""


def _hash(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass")) or 1


def question_words(text: str) -> frozenset[str]:
    """Return the words of a question; repeating them in an answer does not count."""
    return frozenset(words_of(text))


def agreement(mine: IntArray, others: IntArray) -> FloatArray:
    """Return (n,) how much (n, WORDS) key words of two answers agree.

    It is the mean of two shares: of the shorter answer's words those that the other has, and of all words the common
    ones.
    """
    shared = ((mine[:, :, None] == others[:, None, :]) & (mine != 0)[:, :, None]).any(axis=2).sum(axis=1)
    a, b = (mine != 0).sum(axis=1), (others != 0).sum(axis=1)
    agreed: FloatArray = 0.5 * shared / np.maximum(np.minimum(a, b), 1) + shared / np.maximum(a + b, 1)
    return agreed


def stacked(rows: Iterable[list[float]]) -> FloatArray:
    """Return (n, signals) the numbers of several answers."""
    return np.array(list(rows), dtype=np.float64).reshape(-1, len(NAMES))
