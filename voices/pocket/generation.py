"""Making speech: texts begun one by one, then carried on together, one 80 ms step at a time.

Each step decodes the latent every utterance has ready to audio and draws the next one. The rules of
when a text is over are the library's own (``TTSModel._autoregressive_generation``, pocket-tts 4.0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.pocket.backend import Backend, ModelState, Tensor
from ringtrue.voices.pocket.lanes import Attention, attentions, joined, parted, room_in

FloatArray = npt.NDArray[np.float32]

MAX_TOKENS: Final = 50
"""Longest text generated in one go, in tokens: pocket-tts's own limit."""

MIN_STEPS: Final = 6
"""Steps before which an end is not believed."""

TOKENS_PER_SECOND: Final = 3.0
PADDING_SECONDS: Final = 2.0
FADE_SECONDS: Final = 0.005
"""At a text's start: a fresh decoder begins with a small step."""

FLOW_ROOM: Final = 48
MIMI_ROOM: Final = 16
"""Steps for which a batch has space before it is laid out again."""


@dataclass(slots=True, eq=False)
class Lane:
    """One text being spoken."""

    flow: ModelState
    mimi: ModelState
    latent: Tensor
    """Drawn and not yet decoded, ``(1, 1, ldim)``."""

    left: int
    """Steps after which it is over in any case."""

    after_end: int
    """Steps that follow the model's own end."""

    step: int = 0
    end: int | None = None
    begun: bool = False
    over: bool = False


@dataclass(slots=True)
class _Batch:
    """A state of several lanes, laid out anew only when its members change or its room is used."""

    layers: dict[str, Attention]
    room: int
    """Positions."""

    field_name: str
    lanes: list[Lane] = field(default_factory=list)
    state: ModelState = field(default_factory=dict)

    def lay_out(self, torch: Any, lanes: Sequence[Lane], needed: int) -> None:
        if self.lanes == list(lanes) and room_in(self.state) >= needed:
            return
        self.give_back(torch)
        self.lanes = list(lanes)
        states = [getattr(lane, self.field_name) for lane in lanes]
        self.state = joined(torch, states, self.layers, max(self.room, needed))
        for lane in lanes:
            setattr(lane, self.field_name, {})

    def give_back(self, torch: Any) -> None:
        for row, lane in enumerate(self.lanes):
            if not lane.over:
                setattr(lane, self.field_name, parted(torch, self.state, row, self.layers))
        self.lanes = []
        self.state = {}


class Generator:
    """All texts one model is speaking. For one thread."""

    def __init__(self, backend: Backend) -> None:
        """Speak with ``backend``."""
        self._backend = backend
        self._torch = backend.torch
        model = backend.model
        self._model = model
        self._steps = backend.mimi_steps
        self._flow = _Batch(attentions(model.flow_lm), FLOW_ROOM, "flow")
        self._mimi = _Batch(attentions(model.mimi), MIMI_ROOM * self._steps, "mimi")
        self._fade = np.linspace(0, 1, int(FADE_SECONDS * backend.rate), dtype=np.float32)

    def texts(self, phrase: str) -> list[str]:
        """``phrase`` in the pieces the model takes; none where nothing of it can be spoken."""
        if not any(letter.isalnum() for letter in phrase):
            return []
        model = self._model
        options = {
            "remove_semicolons": model.remove_semicolons,
            "append_terminal_punctuation": model.append_terminal_punctuation,
            "capitalize_first_letter": model.capitalize_first_letter,
            "replace_characters": model.replace_characters,
        }
        pieces: list[str] = self._backend.split_text(
            model.flow_lm.conditioner.tokenizer, phrase, MAX_TOKENS,
            model.pad_with_spaces_for_short_inputs, **options,
        )  # fmt: skip
        return [piece for piece in pieces if any(letter.isalnum() for letter in piece)]

    def begin(self, prompt: ModelState, text: str) -> Lane:
        """Read ``text`` in the voice of ``prompt``, up to the first latent."""
        torch, model = self._torch, self._model
        ready, guess = self._backend.prepare_text(
            text, model.pad_with_spaces_for_short_inputs, model.remove_semicolons,
            model.append_terminal_punctuation, model.capitalize_first_letter,
            model.replace_characters,
        )  # fmt: skip
        after_end = model.model_recommended_frames_after_eos
        with torch.inference_mode():
            tokens = model.flow_lm.conditioner.prepare(ready)
            count = int(tokens.shape[1])
            seconds = count / TOKENS_PER_SECOND + PADDING_SECONDS
            state = joined(torch, [prompt], self._flow.layers, count + 1)
            nothing = torch.full((1, 1, model.flow_lm.ldim), float("nan"))
            latent, _ = self._draw(state, model.flow_lm.conditioner(tokens), nothing)
            _advance(state, count + 1)
            return Lane(
                flow=state,
                mimi=self._silent(),
                latent=latent,
                left=math.ceil(seconds * model.config.mimi.frame_rate),
                after_end=guess + 2 if after_end is None else after_end,
            )

    def step(self, lanes: Sequence[Lane]) -> list[FloatArray]:
        """:meth:`sound`, then :meth:`advance`."""
        frames = self.sound(lanes)
        self.advance(lanes)
        return frames

    def sound(self, lanes: Sequence[Lane]) -> list[FloatArray]:
        """The next 80 ms of each of ``lanes``, mono at the model's rate."""
        torch, flow_lm = self._torch, self._model.flow_lm
        with torch.inference_mode():
            latents = torch.cat([lane.latent for lane in lanes])
            self._mimi.lay_out(torch, lanes, self._steps)
            sound = self._model.mimi.decode_from_latent(
                latents * flow_lm.emb_std + flow_lm.emb_mean, self._mimi.state
            )
            _advance(self._mimi.state, self._steps)
            frames = [np.array(row, np.float32) for row in sound[:, 0].numpy()]
            for lane, frame in zip(lanes, frames, strict=True):
                if not lane.begun:
                    lane.begun = True
                    frame[: len(self._fade)] *= self._fade
        return frames

    def advance(self, lanes: Sequence[Lane]) -> None:
        """Draw what each of ``lanes`` says next; some may then be over."""
        torch, flow_lm = self._torch, self._model.flow_lm
        with torch.inference_mode():
            latents = torch.cat([lane.latent for lane in lanes])
            self._flow.lay_out(torch, lanes, 1)
            silence = torch.empty((len(lanes), 0, flow_lm.dim))
            drawn, ends = self._draw(self._flow.state, silence, latents)
            _advance(self._flow.state, 1)
        for row, lane in enumerate(lanes):
            lane.step += 1
            lane.latent = drawn[row : row + 1]
            if lane.end is None and lane.step >= MIN_STEPS and bool(ends[row]):
                lane.end = lane.step
            past_end = lane.end is not None and lane.step >= lane.end + lane.after_end
            lane.over = past_end or lane.step >= lane.left

    def _draw(self, state: ModelState, text: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        model = self._model
        drawn, ends = model.flow_lm(
            sequence=latents,
            text_embeddings=text,
            model_state=state,
            sampler_decode_steps=model.sampler_decode_steps,
            temp=model.temp,
            noise_clamp=model.noise_clamp,
            eos_threshold=model.eos_threshold,
        )
        return drawn[:, None, :], ends

    def _silent(self) -> ModelState:
        """Mimi's state before any sound; its encoder's parts are not needed."""
        state = self._backend.init_states(self._model.mimi, batch_size=1, sequence_length=1)
        return {
            name: entries
            for name, entries in state.items()
            if not name.startswith(("encoder", "downsample"))
        }


def _advance(state: ModelState, steps: int) -> None:
    for entries in state.values():
        if "offset" in entries:
            entries["offset"] += steps
