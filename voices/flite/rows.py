"""Copying a C array of row pointers into one array, without the interpreter lock."""

from __future__ import annotations

from typing import Any, cast

import numba
import numpy as np
import numpy.typing as npt
from numba.extending import intrinsic

from ringtrue.voices.jit import compiled

_ADDRESSES: Any = cast(Any, numba).types.CPointer(numba.types.uintp)
_FLOATS: Any = cast(Any, numba).types.CPointer(numba.types.float32)
_carray: Any = cast(Any, numba).carray


def _pointer_to(target: Any) -> Any:
    """A compiled function from an address to a C pointer of type ``target``."""

    @intrinsic
    def as_pointer(typing_context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(target))

        return target(address), codegen

    return as_pointer


_as_addresses: Any = _pointer_to(_ADDRESSES)
_as_floats: Any = _pointer_to(_FLOATS)


@compiled
def copy_rows(address: int, rows: npt.NDArray[np.float32]) -> None:
    """Fill ``rows`` (T, C) from the ``float **`` at ``address``: T pointers to C floats."""
    pointers = _carray(_as_addresses(address), (rows.shape[0],))
    for i in range(rows.shape[0]):
        row = _carray(_as_floats(pointers[i]), (rows.shape[1],))
        for j in range(rows.shape[1]):
            rows[i, j] = row[j]
