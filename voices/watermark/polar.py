"""Polar code of length 512 with list decoding (Arıkan 2009; Tal & Vardy 2015).

The frozen set comes from the Gaussian approximation of density evolution (Trifonov 2012). Nothing
here checks a codeword: whoever calls :func:`decode` picks among the candidates by what they carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.jit import compiled
from ringtrue.voices.watermark.lpc import RealArray

LENGTH: Final = 512
STAGES: Final = 9
DESIGN_SNR_DB: Final = -6.0
LIST: Final = 32

Bits = npt.NDArray[np.uint8]


def _phi(mean: RealArray) -> RealArray:
    mean = np.maximum(mean, 1e-12)
    small = np.exp(-0.4527 * mean**0.86 + 0.0218)
    large = np.sqrt(np.pi / mean) * np.exp(-mean / 4) * (1 - 10 / (7 * mean))
    return np.where(mean < 10, small, large)


def _phi_inverse(value: RealArray) -> RealArray:
    low, high = np.full_like(value, 1e-9), np.full_like(value, 2000.0)
    for _ in range(70):
        middle = (low + high) / 2
        above = _phi(middle) > value
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.asarray((low + high) / 2)


@cache
def positions(information: int) -> tuple[int, ...]:
    """The ``information`` most reliable of the input positions, ascending."""
    if not 0 < information < LENGTH:
        raise ValueError(f"information bits must be 1 to {LENGTH - 1}, got {information}")
    means = np.array([4 * 10 ** (DESIGN_SNR_DB / 10)])
    while len(means) < LENGTH:
        worse = _phi_inverse(np.clip(1 - (1 - _phi(means)) ** 2, 1e-300, 1))
        means = np.stack([worse, 2 * means], axis=1).ravel()
    return tuple(int(i) for i in np.sort(np.argsort(means, kind="stable")[::-1][:information]))


def encode(bits: Bits) -> Bits:
    """The codeword, ``(LENGTH,)``, of information bits at :func:`positions`."""
    word = np.zeros(LENGTH, np.uint8)
    word[list(positions(len(bits)))] = bits
    step = 1
    while step < LENGTH:
        pairs = word.reshape(-1, 2, step)
        pairs[:, 0] ^= pairs[:, 1]
        step *= 2
    return word


def decode(
    likelihoods: RealArray, information: int, size: int = LIST, *, head: Sequence[int] = ()
) -> list[Bits]:
    """Candidates for the information bits, most likely first.

    ``likelihoods`` are log ratios, positive for a 0, shape ``(LENGTH,)``; a common factor doesn't
    matter. ``head`` are the first bits where they are known, which helps with the others.
    """
    if likelihoods.shape != (LENGTH,):
        raise ValueError(f"likelihoods must have shape ({LENGTH},), got {likelihoods.shape}")
    places = list(positions(information))
    frozen = np.ones(LENGTH, np.uint8)
    frozen[places[len(head) :]] = 0
    known = np.zeros(information, np.uint8)
    known[: len(head)] = head
    # the code is linear: without the known bits' own word they are zeros, which can be frozen
    rest = likelihoods * (1.0 - 2.0 * encode(known).astype(np.float64))
    words, metrics = _list_decode(np.ascontiguousarray(rest, np.float64), frozen, size)
    return [words[path][places] ^ known for path in np.argsort(metrics, kind="stable")]


@compiled
def _list_decode(likelihoods: RealArray, frozen: Bits, size: int) -> tuple[Bits, RealArray]:
    """Successive cancellation over up to ``size`` paths: their input words and metrics."""
    alpha = np.zeros((size, STAGES + 1, LENGTH))
    beta = np.zeros((size, STAGES + 1, LENGTH), np.uint8)
    words = np.zeros((size, LENGTH), np.uint8)
    metrics = np.zeros(size)
    active = 1
    alpha[0, 0, :] = likelihoods
    for phase in range(LENGTH):
        first = 0
        if phase:
            first, rest = STAGES - 1, phase
            while rest % 2 == 0:
                first -= 1
                rest >>= 1
        for path in range(active):
            for stage in range(first, STAGES):
                half = LENGTH >> (stage + 1)
                block = (phase >> (STAGES - stage)) << (STAGES - stage)
                right = (phase >> (STAGES - stage - 1)) & 1
                for i in range(block, block + half):
                    a, b = alpha[path, stage, i], alpha[path, stage, i + half]
                    if right:
                        known = beta[path, stage + 1, i]
                        alpha[path, stage + 1, i + half] = b + a if known == 0 else b - a
                    else:
                        low = min(abs(a), abs(b))
                        alpha[path, stage + 1, i] = low if (a >= 0) == (b >= 0) else -low
        if frozen[phase]:
            for path in range(active):
                beta[path, STAGES, phase] = 0
                metrics[path] += max(0.0, -alpha[path, STAGES, phase])
        else:
            active = _branch(alpha, beta, words, metrics, active, phase)
        for path in range(active):
            stage = STAGES
            while stage > 0 and (phase >> (STAGES - stage)) & 1:
                half = LENGTH >> stage
                block = (phase >> (STAGES - stage + 1)) << (STAGES - stage + 1)
                for i in range(block, block + half):
                    beta[path, stage - 1, i] = beta[path, stage, i] ^ beta[path, stage, i + half]
                    beta[path, stage - 1, i + half] = beta[path, stage, i + half]
                stage -= 1
    return words[:active], metrics[:active]


@compiled
def _branch(
    alpha: npt.NDArray[np.float64],
    beta: npt.NDArray[np.uint8],
    words: npt.NDArray[np.uint8],
    metrics: RealArray,
    active: int,
    phase: int,
) -> int:
    """Let every path go on with 0 and with 1, and keep the best; returns how many there are."""
    size: int = alpha.shape[0]
    last = alpha.shape[1] - 1
    forked = np.empty(2 * active)
    for path in range(active):
        value = alpha[path, last, phase]
        forked[path] = metrics[path] + max(0.0, -value)
        forked[active + path] = metrics[path] + max(0.0, value)
    kept = int(min(size, 2 * active))
    keep = np.zeros(2 * active, np.uint8)
    for choice in np.argsort(forked)[:kept]:
        keep[choice] = 1
    free = np.empty(size, np.int64)
    count = 0
    for path in range(size):
        if path >= active or not (keep[path] or keep[active + path]):
            free[count] = path
            count += 1
    used = 0
    for path in range(active):
        if keep[path] and keep[active + path]:
            other = free[used]
            used += 1
            alpha[other] = alpha[path]
            beta[other] = beta[path]
            words[other] = words[path]
            metrics[other] = forked[active + path]
            words[other, phase] = 1
            beta[other, last, phase] = 1
        elif keep[active + path]:
            metrics[path] = forked[active + path]
            words[path, phase] = 1
            beta[path, last, phase] = 1
            continue
        if keep[path]:
            metrics[path] = forked[path]
            words[path, phase] = 0
            beta[path, last, phase] = 0
    return kept
