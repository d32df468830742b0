from __future__ import annotations

from pathlib import Path

import pytest

from dotstream.errors import Misconfigured
from ops.local.claim import claimed, write_stack
from ops.settings import Settings, child_environment, load


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine that the tests run on reaches them."""
    import os

    for name in list(os.environ):
        if name.startswith("DOTSTREAM_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_the_command_line_beats_the_environment_beats_the_file_beats_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "my.toml"
    file.write_text('generation = "g7"\n[vision]\nbatch_max = 3\nconcurrency = 5\nwindow = 9\n')
    monkeypatch.setenv("DOTSTREAM_VISION__BATCH_MAX", "4")
    monkeypatch.setenv("DOTSTREAM_VISION__CONCURRENCY", "6")
    loaded = load(file, {"vision.batch_max": 8})
    vision = loaded.settings.vision
    assert (vision.batch_max, vision.concurrency, vision.window, vision.prepare_threads) == (8, 6, 9, 4)
    assert loaded.settings.generation == "g7"
    assert loaded.sources["vision.batch_max"] == "command line"
    assert loaded.sources["vision.concurrency"] == "environment DOTSTREAM_VISION__CONCURRENCY"
    assert loaded.sources["vision.window"] == f"file {file}"
    assert "vision.prepare_threads" not in loaded.sources


def test_the_file_of_the_present_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "dotstream.toml").write_text('generation = "here"\n')
    assert load().settings.generation == "here"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[kafka]\nbootstrp = 'x'\n", "kafka.bootstrp is no setting"),
        ("nonsense = 1\n", "nonsense is no setting"),
        ("[vision]\nbatch_max = 0\n", "vision.batch_max"),
        ("generation = '../up'\n", "generation"),
        ("[broken\n", "my.toml"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "my.toml"
    file.write_text(text)
    with pytest.raises(Misconfigured, match=said):
        load(file)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(Misconfigured, match=r"nowhere\.toml"):
        load(Path("nowhere.toml"))


@pytest.mark.parametrize("name", ["DOTSTREAM_KAFKA__BOOTSTRP", "DOTSTREAM_KAFKER__BOOTSTRAP", "DOTSTREAM_GENERATON"])
def test_an_unknown_name_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(Misconfigured, match=r"is no setting|names no setting"):
        load()


def test_lists_are_written_with_commas_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOTSTREAM_FETCH__SCHEMES", "https, file")
    monkeypatch.setenv("DOTSTREAM_FETCH__PORTS", "443,8443")
    fetch = load().settings.fetch
    assert fetch.schemes == ("https", "file")
    assert fetch.ports == (443, 8443)


def test_approximate_searches_and_a_gpu_are_not_asked_for_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is started with such settings, and wherever the two come from."""
    file = tmp_path / "my.toml"
    file.write_text("[index]\napproximate = true\n")
    assert load(file).settings.index.approximate
    monkeypatch.setenv("DOTSTREAM_INDEX__DEVICE", "cuda")
    with pytest.raises(Misconfigured, match=r'settings: index: approximate searches run on the CPU.*device to "auto"'):
        load(file)


def test_secrets_come_from_files_and_are_shown_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    values = {
        "kafka.bootstrap": "broker:9093",
        "kafka.security_protocol": "SASL_SSL",
        "kafka.sasl_mechanism": "PLAIN",
        "kafka.sasl_username": "me",
        "kafka.sasl_password_file": secret,
    }
    loaded = load(None, values)
    connection = loaded.settings.kafka.connection()
    assert connection.config()["sasl.password"] == "hunter2"
    assert connection.config()["security.protocol"] == "SASL_SSL"
    shown = repr(connection) + repr(loaded.settings) + repr(list(loaded.rows()))
    assert "hunter2" not in shown


def test_a_file_of_secrets_that_cannot_be_read_is_named() -> None:
    loaded = load(None, {"kafka.bootstrap": "b:1", "kafka.sasl_password_file": Path("nowhere")})
    with pytest.raises(Misconfigured, match=r"kafka\.sasl_password_file: cannot read nowhere"):
        loaded.settings.kafka.connection()


def test_without_an_address_the_message_says_what_to_do() -> None:
    with pytest.raises(Misconfigured, match="dotstream up"):
        load().settings.kafka.connection()


def test_topics_and_generation_come_from_the_stack_whose_brokers_are_meant(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with claimed(data):
        write_stack(data, {"kafka": "127.0.0.1:1", "triton": "127.0.0.1:2", "prefix": "mine.", "generation": "g4"})
        loaded = load(None, {"data": data})
        assert (loaded.settings.topics.prefix, loaded.settings.generation) == ("mine.", "g4")
        assert loaded.sources["topics.prefix"] == loaded.sources["generation"] == "stack.json"
        own = load(None, {"data": data, "topics.prefix": "", "generation": "g1"}).settings
        assert (own.topics.prefix, own.generation) == ("", "g1")
        elsewhere = load(None, {"data": data, "kafka.bootstrap": "other:9"}).settings
        assert (elsewhere.topics.prefix, elsewhere.generation) == ("", "g1")


@pytest.mark.parametrize("address", ["nonsense", "host:", ":9092", "host:0", "host:70000", "a:1,b", "http://a:1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(Misconfigured, match="is no Kafka address: HOST:PORT"):
        load(None, {"kafka.bootstrap": address}).settings.kafka.connection()


@pytest.mark.parametrize("address", ["a:1", "127.0.0.1:9092", "a.b-c:1, d:2", "[::1]:9092"])
def test_what_is_an_address_is_taken(address: str) -> None:
    assert load(None, {"kafka.bootstrap": address}).settings.kafka.connection().bootstrap == address


def test_addresses_come_from_the_stack_that_runs_in_the_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with claimed(data):
        write_stack(data, {"kafka": "127.0.0.1:1", "triton": "127.0.0.1:2"})
        loaded = load(None, {"data": data})
        assert loaded.settings.kafka.bootstrap == "127.0.0.1:1"
        assert loaded.settings.triton.address == "127.0.0.1:2"
        assert loaded.sources["kafka.bootstrap"] == "stack.json"
        own = load(None, {"data": data, "kafka.bootstrap": "mine:9"})
        assert own.settings.kafka.bootstrap == "mine:9"
    assert load(None, {"data": data}).settings.kafka.bootstrap == ""


def test_a_child_process_gets_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(
        None,
        {"data": tmp_path / "d", "fetch.schemes": ("https", "file"), "fetch.private_networks": True, "dots.score": 0.4},
    )
    for name, value in child_environment(loaded, {"kafka.bootstrap": "127.0.0.1:5"}).items():
        monkeypatch.setenv(name, value)
    child = load().settings
    assert child == loaded.settings.model_copy(
        update={"kafka": loaded.settings.kafka.model_copy(update={"bootstrap": "127.0.0.1:5"})}
    )


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().vision.batch_max = 3


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, _, _, about in load().rows() if not about] == []


def test_places_follow_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    settings = load(None, {"data": tmp_path / "d"}).settings
    assert settings.pictures_url == (tmp_path / "d" / "pictures").as_uri()
    assert settings.index_folder == tmp_path / "d" / "index" / "g1"
    assert settings.cache_folder == tmp_path / "xdg" / "dotstream"


@pytest.mark.parametrize(
    ("host", "given", "hosts"),
    [
        ("127.0.0.1", (), ("127.0.0.1", "localhost", "[::1]", "::1")),
        ("0.0.0.0", (), ("*",)),
        ("0.0.0.0", ("pins.example.com",), ("pins.example.com",)),
    ],
)
def test_an_api_on_loopback_answers_to_its_own_names_only(
    host: str, given: tuple[str, ...], hosts: tuple[str, ...]
) -> None:
    assert load(None, {"api.host": host, "api.allowed_hosts": given}).settings.api.known_hosts == hosts
