"""Foreign text at the borders: files and terminals."""

import doctest
import json
import unicodedata

import pytest
from hostile import SMALL, TEXTS

from panelbook import text as module
from panelbook.text import is_whole, mend, show_controls


def test_examples_in_docstrings():
    results = doctest.testmod(module)
    assert results.attempted >= 3
    assert results.failed == 0


@pytest.mark.parametrize("text", TEXTS)
def test_mended_text_can_be_written_and_nothing_else_is_changed(text):
    mended = mend(text)
    mended.encode()
    assert len(mended) == len(text)
    changed = {(old, new) for old, new in zip(text, mended, strict=True) if old != new}
    assert all(
        unicodedata.category(old) == "Cs" and new == "\N{REPLACEMENT CHARACTER}" for old, new in changed
    )
    assert is_whole(text) == (text == mended)


def test_json_values_are_mended_wherever_the_text_stands():
    broken = json.loads(
        r'{"a\ud800": ["x", {"b": "\udfff!"}], "n": 1.5, "none": null, "pair": "\ud83d\ude00"}'
    )
    assert not is_whole(broken)
    assert mend(broken) == {"a�": ["x", {"b": "�!"}], "n": 1.5, "none": None, "pair": "😀"}
    assert is_whole(mend(broken))


@pytest.mark.parametrize("text", SMALL)
def test_what_is_shown_holds_no_control_character(text):
    shown = show_controls(text)
    assert not {c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in "\n\t"}
    assert not {c for c in shown if unicodedata.bidirectional(c) in
                ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")}  # fmt: skip
    assert show_controls(shown) == shown
    assert len(shown) >= len(text)  # nothing disappears


def test_plain_text_of_any_script_is_shown_as_it_is():
    plain = "naïve — 数学 \N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER} שלום\n\tx² ≤ √2"
    assert show_controls(plain) == plain
