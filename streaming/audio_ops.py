"""``audioop``: fast operations on PCM, part of Python until 3.12 and a distribution after it.

Import it from here: Python 3.12 warns of its going each time it is imported.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # in the standard library until 3.12; from 3.13 on the audioop-lts distribution
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

__all__ = ["audioop"]
