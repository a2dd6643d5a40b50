"""Which engines of cloned voices the settings set up."""

from __future__ import annotations

from pathlib import Path

from ringtrue.agent.voice_library import stock_engine, voice_engines
from ringtrue.config.settings import load_settings
from ringtrue.voices.engine import VoiceEngine
from ringtrue.voices.hosted import engine_names


async def engines(folder: Path, text: str) -> dict[str, VoiceEngine]:
    (folder / "settings.yaml").write_text(text)
    settings = load_settings(folder / "settings.yaml", environ={})
    stock = stock_engine(settings)
    found = voice_engines(settings, stock)
    for engine in found.values():
        await engine.close()
    await stock.close()
    return found


async def test_the_embedded_engine_is_always_there_and_alone_by_default(tmp_path: Path) -> None:
    assert list(await engines(tmp_path, "{}")) == ["embedded-1"]


async def test_pocket_and_hosted_are_there_where_they_are_set_up(tmp_path: Path) -> None:
    found = await engines(
        tmp_path,
        """
voices:
  pocket: {model: models/small, batch: 4}
  hosted:
    reception: {service: cartesia, settings: {api_key: sk-hidden}}
    support: {service: openai, settings: {api_key: sk-hidden}}
""",
    )
    assert list(found) == ["embedded-1", "pocket-1", "hosted-1"]
    assert {name: engine.id for name, engine in found.items()} == {name: name for name in found}
    assert engine_names(found) == [
        "embedded-1", "pocket-1", "hosted:reception:VOICE_ID", "hosted:support:VOICE_ID"
    ]  # fmt: skip
