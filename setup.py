"""Maps the top folders to the ``ringtrue`` namespace (PEP 420) and finds their subpackages.

With ``RINGTRUE_COMPILED=1`` the modules that every 20 ms of every call goes through are compiled to
C by mypyc, from the same sources, and calls of the system for media sockets from C: this needs
mypy, a C compiler and Python's headers.
"""

import contextlib
import os
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Extension, find_packages, setup

ROOTS = ("agent", "streaming", "telephony", "voices", "loadtest", "config")

# The clock stays as it is: what holds up the loop is looked for in the frames it calls from.
COMPILED = (
    "streaming/budget/silence.py",
    "streaming/drafts.py",
    "streaming/gate.py",
    "streaming/inbound.py",
    "streaming/output.py",
    "streaming/playout.py",
    "streaming/playout_steps.py",
    "streaming/refusals.py",
    "streaming/seals.py",
    "streaming/session.py",
    "telephony/codecs/g711.py",
    "telephony/rtp/bursts.py",
    "telephony/rtp/datagrams.py",
    "telephony/rtp/dtmf.py",
    "telephony/rtp/jitter.py",
    "telephony/rtp/latch.py",
    "telephony/rtp/leg.py",
    "telephony/rtp/packet.py",
    "telephony/rtp/plc.py",
    "telephony/rtp/receiver.py",
    "telephony/rtp/reception.py",
    "telephony/rtp/sender.py",
    "telephony/rtp/stream.py",
    "voices/watermark/embedder.py",
    "voices/watermark/marker.py",
)


NAMESPACE = Path("build/ns/ringtrue")


def link_namespace() -> None:
    """Link the folders as the namespace they install as: mypy sees ``ringtrue.*`` names there."""
    NAMESPACE.mkdir(parents=True, exist_ok=True)
    for root in ROOTS:
        with contextlib.suppress(FileExistsError):
            (NAMESPACE / root).symlink_to(Path("../../..", root), target_is_directory=True)


class Namespace(Command):
    """``python setup.py namespace``, for ``make types``."""

    description = "link the folders as the namespace they install as, for mypy"
    user_options: ClassVar[list[tuple[str, str, str]]] = []

    def initialize_options(self) -> None:
        """There are no options."""

    def finalize_options(self) -> None:
        """There are no options."""

    def run(self) -> None:
        """Link."""
        link_namespace()


def extensions() -> list:
    """The compiled modules under their names in the namespace, which the folders don't show."""
    if os.environ.get("RINGTRUE_COMPILED") != "1":
        return []
    from mypyc.build import mypycify

    link_namespace()
    os.environ["MYPYPATH"] = str(NAMESPACE.parent)
    options = ["--namespace-packages", "--explicit-package-bases", "--follow-imports=silent"]
    paths = [str(NAMESPACE / path) for path in COMPILED]
    level = os.environ.get("RINGTRUE_OPT_LEVEL", "2")
    calls = Extension(
        "ringtrue.telephony.rtp._system_calls",
        ["telephony/rtp/_system_calls.c"],
        extra_compile_args=[f"-O{level}"],
    )
    modules = mypycify([*options, *paths], opt_level=level, group_name="ringtrue")
    for module in modules:
        # Functions of one library that nothing else replaces: they may be inlined.
        module.extra_compile_args += ["-fvisibility=hidden", "-fno-semantic-interposition"]
    return [calls, *modules]


packages = [f"ringtrue.{root}" for root in ROOTS]
packages += [f"ringtrue.{root}.{sub}" for root in ROOTS for sub in find_packages(root)]

setup(
    packages=packages,
    package_dir={f"ringtrue.{root}": root for root in ROOTS},
    ext_modules=extensions(),
    cmdclass={"namespace": Namespace},
)
