from __future__ import annotations

import pytest

from streamproc.learning.features import words
from streamproc.learning.vocabulary import VOCABULARY, categorise
from streamproc.services import Category


@pytest.mark.parametrize(
    ("text", "category"),
    [
        pytest.param("NodeFilesystemAlmostOutOfSpace", "infrastructure", id="a node"),
        pytest.param("CheckoutErrorRateHigh", "application", id="as many words of business: application goes first"),
        pytest.param("OrdersDropped", "business", id="business"),
        pytest.param("CertificateExpiresSoon", "security", id="security"),
        pytest.param("SomethingElse", None, id="no word tells"),
    ],
)
def test_categorise(text: str, category: Category | None) -> None:
    assert categorise(words(text), {}) == category


def test_more_words() -> None:
    assert categorise(["llama"], {"business": frozenset({"llama"})}) == "business"


def test_words_are_written_as_they_are_read() -> None:
    assert [word for told in VOCABULARY.values() for word in told if words(word) != [word]] == []
