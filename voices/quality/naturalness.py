"""How natural speech sounds to DNSMOS, a network trained on listeners' marks. Blocking.

Reddy, Gopal & Cutler, "DNSMOS: A non-intrusive perceptual objective speech quality metric to
evaluate noise suppressors", ICASSP 2021; its P.808 score is on the scale of 1 to 5. The network
comes with the package ``speechmos`` (extra ``bench``).
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.errors import EngineUnavailableError

RATE: Final = 16000
PEAK: Final = 0.7


class ListenersMark:
    """DNSMOS, loaded."""

    def __init__(self) -> None:
        """Load the network.

        Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` where it isn't installed.
        """
        try:
            self._dnsmos: Any = importlib.import_module("speechmos.dnsmos")
        except ImportError as error:
            raise EngineUnavailableError(
                f"DNSMOS can't be loaded ({error}); install ringtrue[bench]"
            ) from error

    def __call__(self, samples: npt.NDArray[np.floating]) -> float:
        """The P.808 mark of mono speech at 16 kHz, brought to one peak level."""
        audio = np.asarray(samples, np.float64)
        audio = audio * (PEAK / max(1e-9, float(np.abs(audio).max())))
        return float(self._dnsmos.run(audio, sr=RATE)["p808_mos"])
