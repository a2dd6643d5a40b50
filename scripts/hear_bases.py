"""Write what fits need to know of the base voices: ``python scripts/hear_bases.py``.

Run it where the neural vocoder, the analysis, the learning script or the liveliness of new voices
changed; ``tests/test_voices_cloning_heard.py`` tells. Takes a minute.
"""

from __future__ import annotations

from pathlib import Path

from ringtrue.voices.cloning import heard
from ringtrue.voices.cloning.bases import MEASURED, embedding_of, measure, rendered
from ringtrue.voices.cloning.fit import LIVELINESS
from ringtrue.voices.cloning.script import LEARNING
from ringtrue.voices.encoder import SpeakerEncoder
from ringtrue.voices.flite import VOICES, Flite, FliteVoice, spoken_tokens

FILE = Path(__file__).resolve().parent.parent / "voices" / "cloning" / heard.FILE


def main() -> None:
    """Render and analyse each base voice."""
    flite = Flite()
    encoder = SpeakerEncoder.load()
    found: dict[str, heard.Heard] = {}
    for name in VOICES:
        voice = FliteVoice(flite, name)
        given = rendered(
            [voice.analyse(spoken_tokens(text)) for text in LEARNING[:MEASURED]], LIVELINESS
        )
        key = heard.digest(given, neural=True)
        frames = measure(given, neural=True)
        found[key] = heard.Heard(frames, embedding_of(voice, encoder))
        print(f"{name}: {len(frames)} frames, {key}")
    FILE.write_bytes(heard.packed(found))
    print(f"{FILE.stat().st_size / 1e6:.2f} MB: {FILE}")


if __name__ == "__main__":
    main()
