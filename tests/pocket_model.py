"""A pocket-tts model of the real architecture, small and with random weights, on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

ENTRIES = 4000


def tokenizer_json() -> str:
    """A word tokenizer of exactly 4,000 entries: characters, and pieces that never occur."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    symbols = ["<unk>", "▁", *map(chr, range(33, 127))]
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    for index in range(len(vocabulary), ENTRIES):
        vocabulary[f"▁unused{index}"] = index
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Prepend("▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    assert tokenizer.get_vocab_size() == ENTRIES
    return tokenizer.to_str()


def configuration() -> dict[str, Any]:
    """The library's own 2M English configuration, with an encoder cut down to match."""
    pocket = pytest.importorskip("pocket_tts", reason="pocket-tts is in the extra: pocket")
    path = Path(pocket.__file__).parent / "config" / "english_2m_2026-10.yaml"
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["mimi"]["seanet"] |= {"n_filters": 8, "dimension": 64}
    config["mimi"]["transformer"] |= {
        "d_model": 64, "input_dimension": 64, "output_dimensions": [64], "dim_feedforward": 128,
        "num_heads": 2,
    }  # fmt: skip
    config["flow_lm"]["transformer"] |= {"num_layers": 3}
    config["mimi"]["decoder_transformer"] |= {"num_layers": 2}
    return config


def make_model(directory: Path, *, seed: int = 1, ends: bool = True) -> Path:
    """Write the three files of a model; where ``ends`` is false, its speech never ends early."""
    torch = pytest.importorskip("torch", reason="torch is in the extra: pocket")
    config = configuration()
    tts = pytest.importorskip("pocket_tts.models.tts_model")
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    hub = json.loads(json.dumps(config))
    config["weights_path"] = config["weights_path_without_voice_cloning"] = None
    config["flow_lm"]["lookup_table"] |= {
        "tokenizer": "tokenizers", "tokenizer_path": str(directory / "tokenizer.json")
    }  # fmt: skip
    scratch = directory / "random.yaml"
    scratch.write_text(yaml.safe_dump(config), encoding="utf-8")
    torch.manual_seed(seed)
    model = tts.TTSModel.load_model(config=scratch)
    scratch.unlink()
    with torch.no_grad():
        model.flow_lm.speaker_proj_weight.normal_(std=0.1)
        for name, parameter in model.named_parameters():
            if "layer_scale" in name:
                parameter.fill_(0.5)
        if not ends:
            model.flow_lm.out_eos.bias.fill_(-1e6)
    save_file(dict(model.state_dict()), directory / "model.safetensors")
    hub["default_temperature"] = 0.0
    (directory / "model.yaml").write_text(yaml.safe_dump(hub), encoding="utf-8")
    return directory
