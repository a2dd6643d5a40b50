from __future__ import annotations

import itertools
import re

from ringtrue.voices.cache.names import names_of, suffix_of
from ringtrue.voices.keys.sealing import SealContext

VOICE = "v_0123456789abcdef0123456789abcdef"


def test_names_are_hashes_and_tell_nothing() -> None:
    names = names_of("acme", VOICE)
    suffix = suffix_of(SealContext("acme", VOICE, "embedding", 3))
    assert re.fullmatch(r"rt:\{[0-9a-f]{32}\}", names.prefix)
    assert re.fullmatch(r"[0-9a-f]{32}", suffix)
    for name in (names.entry(suffix), names.index, names.dropped):
        assert name.startswith(names.prefix + ":")
        assert VOICE not in name
        assert VOICE[2:] not in name
        assert "acme" not in name
        assert "embedding" not in name


def test_every_tenant_voice_kind_and_version_has_a_name_of_its_own() -> None:
    fields = itertools.product(("t", "t2"), ("v", "v2"), ("k", "k2"), (0, 1, 256))
    places = [SealContext(*field) for field in fields]
    # Fields that run into each other when only put side by side.
    places += [SealContext("tv", "x", "k", 0), SealContext("t", "vx", "k", 0)]
    full = {names_of(p.tenant, p.voice).entry(suffix_of(p)) for p in places}
    assert len(full) == len(places)


def test_names_stay_the_same_from_process_to_process() -> None:
    assert names_of("t", VOICE) == names_of("t", VOICE)
    assert names_of("default", VOICE).prefix == "rt:{e4f93923526d6aab1ba0b6d3c15d7c97}"
