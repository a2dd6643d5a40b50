"""Settings: layers, types, and errors that say what was wrong and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from ringtrue.config.errors import SettingsError
from ringtrue.config.layers import PATH_KEYS, default_layer
from ringtrue.config.settings import (
    FliteSettings,
    HostedSpeech,
    PipecatService,
    PocketsphinxSettings,
    Settings,
    WhisperSettings,
    load_settings,
)


def load(yaml_text: str, tmp_path: Path, **environ: str) -> Settings:
    path = tmp_path / "server.yaml"
    path.write_text(yaml_text)
    return load_settings(path, environ=environ)


def complaint(**environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=environ)
    return str(caught.value)


def test_the_shipped_defaults_are_the_schema_s_own() -> None:
    assert load_settings(environ={}) == Settings()


def test_the_shipped_file_shows_every_key() -> None:
    shipped = default_layer().data

    def missing(model: BaseModel, data: Any, path: str = "") -> list[str]:
        found = []
        for name in type(model).model_fields:
            value = getattr(model, name)
            if name not in data:
                found.append(path + name)
            elif isinstance(value, BaseModel) and "engine" not in type(value).model_fields:
                found += missing(value, data[name], f"{path}{name}.")
        return found

    assert missing(Settings(), shipped) == []


def test_environment_beats_file_beats_defaults(tmp_path: Path) -> None:
    text = "sip: {port: 5070, tcp: false}\nserver: {name: Reception}"
    settings = load(text, tmp_path, RINGTRUE_SIP__PORT="5080", OTHER="x", RINGTRUE_HTTP__HOST="")
    assert settings.sip.port == 5080
    assert settings.sip.tcp is False
    assert settings.sip.udp is True
    assert settings.server.name == "Reception"
    assert settings.http.host == "0.0.0.0"


def test_the_process_environment_is_read_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGTRUE_SERVER__MAX_CALLS", "7")
    monkeypatch.setenv("RINGTRUE_CONFIG", "/ignored/here.yaml")
    assert load_settings().server.max_calls == 7


def test_environment_values_are_converted() -> None:
    settings = load_settings(
        environ={
            "RINGTRUE_SIP__CODECS": "PCMA, PCMU",
            "RINGTRUE_SIP__ROUTES": '{"100": "reception"}',
            "RINGTRUE_SIP__UDP": "false",
            "RINGTRUE_VAD__CONFIDENCE": "0.7",
            "RINGTRUE_WEBRTC__ICE_SERVERS": '[{"urls": ["stun:a.test"], "credential": "c"}]',
            "RINGTRUE_AGENTS__DIR": "null",
            "RINGTRUE_TWILIO__AUTH_TOKEN": "0123",
        }
    )
    assert settings.sip.codecs == ("PCMA", "PCMU")
    assert settings.sip.routes == {"100": "reception"}
    assert settings.sip.udp is False
    assert settings.vad.confidence == 0.7
    assert settings.webrtc.ice_servers[0].urls == ("stun:a.test",)
    assert settings.agents.dir is None
    token = settings.twilio.auth_token
    assert token is not None
    assert token.get_secret_value() == "0123"


def test_keys_that_yaml_would_convert_stay_text(tmp_path: Path) -> None:
    settings = load("sip: {routes: {100: reception, 0123: demo, on: demo}}", tmp_path)
    assert settings.sip.routes == {"100": "reception", "0123": "demo", "on": "demo"}


@pytest.mark.parametrize(
    ("section", "value", "kind"),
    [
        ("stt", {"engine": "pocketsphinx", "processes": 2}, PocketsphinxSettings),
        ("stt", {"engine": "whisper", "model": "/models/tiny"}, WhisperSettings),
        ("stt", {"engine": "pipecat", "service": "deepgram"}, PipecatService),
        ("tts", {"engine": "flite", "voice": "rms"}, FliteSettings),
        ("tts", {"engine": "pipecat", "service": "cartesia"}, HostedSpeech),
        ("llm", {"engine": "pipecat", "service": "openai"}, PipecatService),
    ],
)
def test_an_engine_chooses_its_options(
    tmp_path: Path, section: str, value: dict[str, Any], kind: type[BaseModel]
) -> None:
    chosen = getattr(load(yaml.safe_dump({section: value}), tmp_path), section)
    assert type(chosen) is kind
    assert {key: getattr(chosen, key) for key in value} == value


def test_another_engine_replaces_the_section_below_it(tmp_path: Path) -> None:
    text = "stt: {engine: whisper, model: small.en, device: cpu}"
    same = load(text, tmp_path, RINGTRUE_STT__BEAM_SIZE="3").stt
    assert isinstance(same, WhisperSettings)
    assert (same.model, same.beam_size) == ("small.en", 3)
    other = load(text, tmp_path, RINGTRUE_STT__ENGINE="pocketsphinx").stt
    assert isinstance(other, PocketsphinxSettings)


def test_relative_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    text = "agents: {dir: ours}\npaths: {libraries: [lib, /usr/lib]}\nrecords: {dir: ~/records}"
    settings = load(text, tmp_path)
    assert settings.agents.dir == tmp_path / "ours"
    assert settings.paths.libraries == (tmp_path / "lib", Path("/usr/lib"))
    assert settings.records.dir == Path("~/records").expanduser()


def test_every_path_setting_is_anchored() -> None:
    def is_path(annotation: Any) -> bool:
        return annotation is Path or any(map(is_path, get_args(annotation)))

    def paths_in(model: type[BaseModel], above: tuple[str, ...]) -> set[tuple[str, ...]]:
        found = set()
        for key, field in model.model_fields.items():
            members = get_args(field.annotation) or (field.annotation,)
            sections = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
            name = ("*",) if get_origin(field.annotation) is dict else ()
            for section in sections:
                found |= paths_in(section, (*above, key, *name))
            if not sections and is_path(field.annotation):
                found.add((*above, key))
        return found

    assert paths_in(Settings, ()) == set(PATH_KEYS)


def test_services_under_names_of_their_own_are_checked_and_hide_their_secrets(
    tmp_path: Path,
) -> None:
    text = "voices: {hosted: {one: {service: cartesia, settings: {api_key: sk-hidden, speed: 1}}}}"
    settings = load(text, tmp_path, RINGTRUE_VOICES__HOSTED__ONE__SETTINGS__SPEED="1.5")
    assert settings.voices.hosted["one"].revealed() == {"api_key": "sk-hidden", "speed": 1.5}
    assert "sk-hidden" not in repr(settings)
    text = "voices: {hosted: {Bad!: {service: x}, ok: {servic: y, service: ''}}}"
    with pytest.raises(SettingsError) as caught:
        load(text, tmp_path)
    said = str(caught.value)
    assert "voices.hosted.ok.servic: unknown key" in said
    assert "did you mean service?; allowed: service, settings" in said
    assert "voices.hosted.ok.service: is ''; allowed: text at least 1 characters" in said
    assert "voices.hosted.Bad!: 'Bad!' can't be a name here: string should match" in said


def test_settings_are_frozen() -> None:
    settings = load_settings(environ={})
    with pytest.raises(ValidationError, match="frozen"):
        settings.sip.port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        settings.sip = settings.sip  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SIP__PRT", "5061", ["sip.prt", "'5061'", "did you mean port?", "rtp_port_min"]),
        ("SERVR__NAME", "x", ["servr", "did you mean server?", "deadlines"]),
        ("SIP__PORT", "70000", ["sip.port", "'70000'", "at least 0 and at most 65535"]),
        ("SIP__PORT", "http", ["sip.port", "'http'", "a whole number"]),
        ("SIP__CODECS", "PCMU,G729", ["sip.codecs.1", "'G729'", "opus, G722, PCMU, PCMA", "G722?"]),
        ("SIP__CODECS", "PCMU,PCMU", ["sip.codecs", "names something twice"]),
        ("SIP__RTP_PORT_MIN", "20001", ["sip", "20001 is odd"]),
        ("SIP__RTP_PORT_MAX", "10000", ["rtp_port_max 10000 must be above rtp_port_min 20000"]),
        ("STT__ENGINE", "wisper", ["stt.engine", "pocketsphinx, whisper, pipecat", "whisper?"]),
        ("LLM__ENGINE", "openai", ["llm.model", "must be given", "text"]),
        ("STT__MODEL", "lm", ["stt", "needs file"]),
        ("HTTP__PUBLIC_URL", "voice.test", ["http.public_url", "'voice.test'", "https://"]),
        ("LOGGING__LEVEL", "debg", ["logging.level", "'debg'", "did you mean DEBUG?"]),
        ("WEBRTC__ICE_SERVERS", "[{urls: http://a}]", ["webrtc.ice_servers.0.urls", "stun:"]),
        ("SIP", "{", ["sip", "can't be read"]),
        ("SIP__UDP", "maybe", ["sip.udp", "'maybe'", "true or false"]),
        ("VAD__RELEASE", "0.9", ["vad", "release 0.9", "confidence 0.6"]),
        ("TWILIO__ENABLED", "true", ["twilio", "auth_token is not set"]),
    ],
)
def test_errors_name_key_value_source_and_what_is_allowed(
    variable: str, value: str, words: list[str]
) -> None:
    text = complaint(**{f"RINGTRUE_{variable}": value})
    assert f"[RINGTRUE_{variable}]" in text
    for word in words:
        assert word in text


def test_all_problems_are_listed_with_their_sources(tmp_path: Path) -> None:
    text = "sip: {port: -1}\nhttp: {prot: 1}\nbogus: 1"
    with pytest.raises(SettingsError) as caught:
        load(text, tmp_path, RINGTRUE_VAD__AGGRESSIVENESS="9")
    problems = {p.key: p for p in caught.value.problems}
    assert set(problems) == {"sip.port", "http.prot", "bogus", "vad.aggressiveness"}
    assert problems["sip.port"].source == str(tmp_path / "server.yaml")
    assert problems["vad.aggressiveness"].source == "RINGTRUE_VAD__AGGRESSIVENESS"
    assert "4 settings are wrong" in str(caught.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"RINGTRUE_TWILIO__AUTH_TOKN": "hunter2"},
        {"RINGTRUE_TWILIO__TOEKN": "hunter2"},
        {"RINGTRUE_TWILIO": "hunter2"},
        {"RINGTRUE_TWILIO__ENABLED": "hunter2", "RINGTRUE_TWILIO__AUTH_TOKEN": "hunter2!"},
        {"RINGTRUE_LLM__ENGINE": "openai", "RINGTRUE_LLM__API_KEY": "[hunter2]"},
        {"RINGTRUE_LLM__ENGINE": "pipecat", "RINGTRUE_LLM__SETTINGS__API_KEY": "hunter2"},
        {"RINGTRUE_LLM": "{engine: openai, model: m, apikey: hunter2}"},
        {"RINGTRUE_LLM": "hunter2"},
        {"RINGTRUE_WEBRTC__ICE_SERVERS": "[{urls: 'stun:a', crednetial: hunter2}]"},
        {"RINGTRUE_WEBRTC__ICE_SERVERS": "hunter2"},
        {"RINGTRUE_AUTH_TOKEN": "hunter2"},
    ],
)
def test_errors_never_show_a_secret(environ: dict[str, str]) -> None:
    if environ.get("RINGTRUE_TWILIO__ENABLED") == "hunter2":
        assert "hunter2!" not in complaint(**environ)
    else:
        assert "hunter2" not in complaint(**environ)


def test_settings_never_print_a_secret(tmp_path: Path) -> None:
    options = {"api_key": "hunter2", "http": {"token": "hunter2"}}
    text = yaml.safe_dump({"tts": {"engine": "pipecat", "service": "s", "settings": options}})
    settings = load(text, tmp_path, RINGTRUE_TWILIO__AUTH_TOKEN="hunter2")
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()
    assert isinstance(settings.tts, PipecatService)
    assert settings.tts.revealed() == options


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sip: [", "not valid YAML at line 1"),
        ("sip:\n  port: 1\n  port: 2", "key 'port' is given twice"),
        ("- a", "must be a mapping of sections, not a list"),
        ("? [a]\n: b", "a key must be plain text"),
        ("sip: !!python/object:os.system {}", "not valid YAML"),
        ("a: &a [*a]", "recursive"),
        ("_env_file: x", "unknown key"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(text, tmp_path)
    assert words in str(caught.value)
    assert str(tmp_path / "server.yaml") in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"can't be read: No such file.*gone\.yaml"):
        load_settings(tmp_path / "gone.yaml", environ={})
    (tmp_path / "latin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_settings(tmp_path / "latin", environ={})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["engine", "settings", "port", "urls", "ice_servers", "x", "0"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(data=st.dictionaries(st.sampled_from([*Settings.model_fields, "other"]), values, max_size=4))
def test_any_data_loads_or_is_a_settings_error(
    data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("s") / "s.yaml"
    path.write_text(yaml.safe_dump(data))
    try:
        load_settings(path, environ={})
    except SettingsError as error:
        text = str(error)
    else:
        return
    assert "wrong" in text
