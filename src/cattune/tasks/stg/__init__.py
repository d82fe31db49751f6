"""The Spurious Token Game: a frozen specification, the splits drawn from it, their causal links."""

from __future__ import annotations

from cattune.tasks.stg.generate import LINKS, SPLITS, make_split
from cattune.tasks.stg.parse import BUILT_IN, load_game, parse_game
from cattune.tasks.stg.shares import ClassShares, class_shares
from cattune.tasks.stg.spec import Game, Wording
from cattune.tasks.stg.wording import causal_only, find_record, wording_from
from cattune.tasks.stg.write import SIZES, draw_splits, split_sizes, write_game

__all__ = [
    "BUILT_IN",
    "LINKS",
    "SIZES",
    "SPLITS",
    "ClassShares",
    "Game",
    "Wording",
    "causal_only",
    "class_shares",
    "draw_splits",
    "find_record",
    "load_game",
    "make_split",
    "parse_game",
    "split_sizes",
    "wording_from",
    "write_game",
]
