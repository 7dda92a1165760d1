"""Texts of scripts without spaces between words are known as such, and their lengths counted."""

from __future__ import annotations

import pytest

from llmclf.data.scripts import ENOUGH, lengths, share_without_spaces

WITHOUT = {
    "Chinese": "这部电影非常好看。我很喜欢。",
    "Japanese": "この映画はとても美しい。",
    "katakana": "スーパーマーケット",
    "half-width": "\uff7d\uff70\uff8a\uff9f\uff70",
    "Thai": "ภาพยนตร์เรื่องนี้สนุกมาก ฉันชอบมันมาก",
    "Lao": "ຮູບເງົານີ້ດີຫຼາຍ",
    "Khmer": "ភាពយន្តនេះល្អណាស់",
    "Burmese": "ဒီရုပ်ရှင်ကအရမ်းကောင်းတယ်",
}
WITH = {
    "English": "This film was a pleasure from start to finish.",
    "Korean": "이 영화는 정말 재미있었어요",
    "Persian": "این فیلم خیلی خوب بود",
    "Hindi": "यह फिल्म बहुत अच्छी थी",
    "Vietnamese": "Bộ phim này rất hay",
    "Russian": "Этот фильм мне очень понравился",
    "parted Chinese": "这 部 电影 非常 好看 , 我 很 喜欢 。",
    "parted Thai": "ภาพยนตร์ เรื่อง นี้ สนุก มาก ฉัน ชอบ มัน มาก",
    "Khmer parted unseen": "ភាពយន្ត\u200bនេះ\u200bល្អ\u200bណាស់",
    "numbers": "12 34 56",
    "one word among many": "The word 好看 means that something is worth a look, they say.",
}


@pytest.mark.parametrize("name", WITHOUT)
def test_scripts_without_spaces(name: str) -> None:
    assert share_without_spaces([WITHOUT[name]] * 3) > 0.99
    unit, counted = lengths([WITHOUT[name], "a b"])
    assert unit == "characters" and counted == [len("".join(WITHOUT[name].split())), 2]


@pytest.mark.parametrize("name", WITH)
def test_scripts_with_spaces(name: str) -> None:
    assert share_without_spaces([WITH[name]]) < ENOUGH
    assert lengths([WITH[name]]) == ("words", [len(WITH[name].split())])


def test_a_mixed_corpus_is_judged_by_its_letters() -> None:
    half = [WITHOUT["Chinese"], WITH["English"]]
    assert ENOUGH < share_without_spaces(half) < 0.5
    assert share_without_spaces([WITHOUT["Chinese"], *[WITH["English"]] * 9]) < ENOUGH
    assert share_without_spaces([]) == share_without_spaces([""]) == 0
