"""Replies that are spoilt at random: no word changes, no thought counts, nothing hangs. The benchmark tries more."""

from __future__ import annotations

from collections import Counter

from reply_mutations import check_reply


def test_five_hundred_spoilt_replies() -> None:
    counts: Counter[str] = Counter()
    for seed in range(500):
        counts += check_reply(seed)[0]
    assert counts["read whole"] > 80 and counts["phrases"] > 800
