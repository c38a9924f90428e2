"""Sentences of the README and of the documentation are short."""

from __future__ import annotations

import pytest

from scripts.checks import sentence_length

MAX_WORDS_PER_SENTENCE = 16


def test_sentences_are_short() -> None:
    assert sentence_length.mean_length(sentence_length.pages()) <= MAX_WORDS_PER_SENTENCE


@pytest.mark.parametrize(
    ("markdown", "words"),
    [
        ("# A heading\n\nOne two three. Four five.\n", [3, 2]),
        ("* One two\n* three four five\n\n| a | table |\n", [2, 3]),
        ("See `some code here` and [a link](x.md#y).\n\n```python\nno = prose\n```\n", [5]),
        ("It costs 1.5 dB, e.g. at 0.1. `Code` begins here.\n\n    indented code\n", [7, 3]),
    ],
)
def test_sentences_are_counted(markdown: str, words: list[int]) -> None:
    assert sentence_length.lengths(markdown) == words
