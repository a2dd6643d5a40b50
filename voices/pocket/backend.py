"""Loading pocket-tts: the library, imported only here and only when asked, and a model of it.

torch and pocket-tts come with the extra ``ringtrue[pocket]``. Their values are ``Any`` to the
type checker, which runs without them.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from ringtrue.voices.errors import EngineUnavailableError
from ringtrue.voices.pocket.files import CONFIG, WEIGHTS, ModelFiles

Tensor: TypeAlias = Any
"""A ``torch.Tensor``."""

ModelState: TypeAlias = dict[str, dict[str, Any]]
"""Streaming state of a model: module → name → tensor."""

MAX_CONFIG: Final = 64 * 1024

EXTRA: Final = 'pip install "ringtrue[pocket]"'


@dataclass(frozen=True, slots=True)
class Backend:
    """A loaded model and the parts of its library that are used."""

    torch: Any
    model: Any
    """``pocket_tts.TTSModel``; used by one thread at a time."""

    init_states: Any
    prepare_text: Any
    split_text: Any
    digest: str
    """Of the model's files."""

    @property
    def rate(self) -> int:
        """Sample rate of the model in Hz (24000)."""
        return int(self.model.sample_rate)

    @property
    def frame(self) -> int:
        """Samples in one step of the model (80 ms)."""
        return int(self.model.mimi.frame_size)

    @property
    def mimi_steps(self) -> int:
        """Steps of Mimi's decoder in one of the model's."""
        mimi = self.model.mimi
        return int(mimi.encoder_frame_rate / mimi.frame_rate)


def load(files: ModelFiles, *, threads: int = 1, temperature: float | None = None) -> Backend:
    """Load the model in ``files``; some seconds of work, and no network.

    ``threads`` are torch's, for the whole process. ``temperature`` None is the model's own.
    Raises :class:`~ringtrue.voices.errors.EngineUnavailableError`.
    """
    try:
        torch = importlib.import_module("torch")
        pocket = importlib.import_module("pocket_tts.models.tts_model")
        stateful = importlib.import_module("pocket_tts.modules.stateful_module")
        text = importlib.import_module("pocket_tts.models.text_chunking")
    except ImportError as error:
        raise EngineUnavailableError(
            f"the pocket engine needs packages that are not installed ({error}); "
            f"install them: {EXTRA}"
        ) from None
    torch.set_num_threads(threads)
    config = local_config(files)
    try:
        with tempfile.TemporaryDirectory(prefix="ringtrue-pocket-") as scratch:
            path = Path(scratch) / CONFIG
            path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
            model = pocket.TTSModel.load_model(config=path, temp=temperature)
    except Exception as error:  # whatever torch, safetensors, pydantic or a tokenizer raise
        raise EngineUnavailableError(
            f"{files.directory} can't be loaded as a pocket-tts model: "
            f"{type(error).__name__}: {str(error)[:300]}"
        ) from None
    model.eval()
    with contextlib.suppress(AttributeError):
        model.requires_grad_(False)
    return Backend(
        torch=torch,
        model=model,
        init_states=stateful.init_states,
        prepare_text=text.prepare_text_prompt,
        split_text=text.split_into_best_sentences,
        digest=files.digest,
    )


def local_config(files: ModelFiles) -> dict[str, Any]:
    """The model's configuration with every path in it replaced by one of ``files``.

    pocket-tts would follow an address in any of them; none is left. Raises
    :class:`~ringtrue.voices.errors.EngineUnavailableError`.
    """
    path = files.path(CONFIG)
    try:
        if path.stat().st_size > MAX_CONFIG:
            raise ValueError(f"more than {MAX_CONFIG} bytes")
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        table = config["flow_lm"]["lookup_table"]
        table["tokenizer_path"] = str(files.path(files.tokenizer).resolve())
        json_tokenizer = files.tokenizer.endswith(".json")
        table["tokenizer"] = "tokenizers" if json_tokenizer else "sentencepiece"
        config["weights_path"] = str(files.path(WEIGHTS).resolve())
        config["weights_path_without_voice_cloning"] = None
        config["flow_lm"]["weights_path"] = None
        config["mimi"]["weights_path"] = None
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise EngineUnavailableError(f"{path} is no pocket-tts configuration: {what}") from None
    assert isinstance(config, dict)
    return config
