"""The words of challenges: common ones, every two at least two phones apart, and all in the
pronouncing dictionary that comes with PocketSphinx (CMUdict).
"""

from __future__ import annotations

from typing import Final

DIGITS: Final = {
    1: "one",
    2: "two",
    3: "three",
    4: "four",
    5: "five",
    6: "six",
    7: "seven",
    8: "eight",
    9: "nine",
}
"""Digits of challenges as spoken. Zero is left out: people also read it as "oh"."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WORDS: Final = _words(
    """
    amber anchor apple april arrow autumn bakery balcony bamboo banana basket beacon bicycle
    blanket blossom bottle branch bridge bronze butter cabin camera candle canyon carbon carpet
    castle cedar cherry chimney cinnamon circle clover coffee copper coral cotton cradle crystal
    daisy desert diamond dolphin dragon eagle echo elbow elephant emerald engine evening
    falcon feather fiddle flamingo forest fountain galaxy garden ginger giraffe glacier granite
    guitar hammer harbor hazel helmet hollow honey horizon iceberg igloo island ivory jacket jasmine
    jungle kettle kitchen ladder lantern lemon leopard lighthouse lobster magnet mango maple marble
    meadow melody mirror monday mustard needle november october olive orange orchid oyster
    painter panda parrot pebble pepper piano pillow planet pocket pumpkin purple pyramid
    rabbit rainbow ribbon river saddle sailor salmon saturn shadow silver spider
    squirrel summer sunday sunset teacup thunder tiger timber tomato trumpet tulip tunnel turtle
    umbrella valley velvet village violin volcano walnut whisper window winter wizard yellow
    zebra
    """
)
"""What a challenge's words are drawn from."""
