"""Sentences of the README and of the documentation are short."""

from __future__ import annotations

import importlib.util

import doc_pages as pages
import pytest

MAX_WORDS_PER_SENTENCE = 16
_SPEC = importlib.util.spec_from_file_location("sentence_length", pages.ROOT / "scripts/checks/sentence_length.py")
assert _SPEC is not None
assert _SPEC.loader is not None
sentence_length = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sentence_length)


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
