"""Settings: their sources, bounds and sentences."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from atlasqueue_server.config import ConfigError, ServerConfig, load

URL = "postgresql://queue:s3cret@db/queue"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see only the variables that they set."""
    for name in os.environ:
        if name.startswith("ATLASQUEUE_"):
            monkeypatch.delenv(name)


def problems(**flags: Any) -> str:
    """What `load` says against `flags`."""
    with pytest.raises(ConfigError) as caught:
        load({"database_url": URL} | flags)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_defaults() -> None:
    config = load({"database_url": URL})
    assert (config.host, config.grpc_port, config.http_port) == ("127.0.0.1", 7420, 7421)
    assert config.tls is None


def test_flags_win_over_the_environment_over_the_file_over_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        f'database_url = "{URL}"\ngrpc_port = 1\nhttp_port = 1\ndatabase_pool_min = 1\n'
    )
    monkeypatch.setenv("ATLASQUEUE_CONFIG", str(file))
    monkeypatch.setenv("ATLASQUEUE_GRPC_PORT", "2")
    monkeypatch.setenv("ATLASQUEUE_HTTP_PORT", "2")
    monkeypatch.setenv("ATLASQUEUE_DATABASE_POOL_MAX", "")
    config = load({"grpc_port": 3, "host": None})
    assert (config.grpc_port, config.http_port, config.database_pool_min) == (3, 2, 1)
    assert (config.database_pool_max, config.host) == (10, "127.0.0.1")


def test_the_flag_names_another_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(f'database_url = "{URL}"\nlog_level = "debug"\n')
    monkeypatch.setenv("ATLASQUEUE_CONFIG", str(tmp_path / "missing.toml"))
    assert load({}, file).log_level == "debug"


def test_a_built_config_takes_nothing_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATLASQUEUE_GRPC_PORT", "2")
    assert ServerConfig(database_url=SecretStr(URL)).grpc_port == 7420


def test_a_wrong_flag_is_named_with_its_bound() -> None:
    assert re.match(r"--grpc-port: must be .*65535", problems(grpc_port=70_000))


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATLASQUEUE_LOG_LEVEL", "loud")
    assert problems() == "ATLASQUEUE_LOG_LEVEL: must be 'debug', 'info', 'warning' or 'error'"


def test_a_wrong_line_of_the_file_is_named_and_so_is_an_unknown_one(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('http_port = "x"\ngrcp_port = 1\n')
    with pytest.raises(ConfigError) as caught:
        load({"database_url": URL}, file)
    number, unknown = sorted(caught.value.problems, key=len)
    assert number.startswith(f"http_port in {file}: must be a valid integer")
    assert unknown.startswith(f"grcp_port in {file}: there is no such setting; there are")


@pytest.mark.parametrize("text", [None, "http_port = ", b"\xff"], ids=["missing", "toml", "utf-8"])
def test_a_file_that_cannot_be_read_is_named(text: str | bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=r"config file .*a\.toml: "):
        load({"database_url": URL}, file)


def test_without_a_database_it_says_how_to_get_one() -> None:
    with pytest.raises(ConfigError, match=r"ATLASQUEUE_DATABASE_URL.*atlasqueue-server dev"):
        load({})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.1", "queue.example"])
def test_a_host_that_others_reach_is_refused(host: str) -> None:
    said = problems(host=host)
    assert said.startswith("host: ")
    assert all(word in said for word in ("tls_cert", "tls_client_ca", "insecure"))
    assert load({"database_url": URL, "host": host, "insecure": True}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_loopback_host_is_taken(host: str) -> None:
    assert load({"database_url": URL, "host": host}).host == host


def test_tls_files_must_be_whole_and_fit(tmp_path: Path) -> None:
    one, other = (trustme.CA().issue_cert("localhost") for _ in range(2))
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    one.cert_chain_pems[0].write_to_path(str(cert))
    other.private_key_pem.write_to_path(str(key))
    assert "together with tls_key" in problems(tls_cert=cert)
    assert "needs tls_cert" in problems(tls_client_ca=cert)
    assert str(key) in problems(tls_cert=cert, tls_key=key)
    assert "missing.pem" in problems(tls_cert=cert, tls_key=tmp_path / "missing.pem")
    one.private_key_pem.write_to_path(str(key))
    assert str(key) in problems(tls_cert=cert, tls_key=key, tls_client_ca=key)
    config = load({"database_url": URL, "tls_cert": cert, "tls_key": key, "host": "0.0.0.0"})
    assert config.tls is not None


def test_a_pool_whose_least_is_above_its_most_is_refused() -> None:
    assert "database_pool_min" in problems(database_pool_min=20)


def test_connections_never_or_not_too_soon() -> None:
    assert "at least 10" in problems(max_connection_age_seconds=1)
    assert load({"database_url": URL, "max_connection_age_seconds": 0})


@pytest.mark.parametrize(
    "url",
    [URL, "mysql://queue:s3cret@db", "host=db password=s3cret", "postgresql://h/d?password=s3cret"],
)
def test_the_password_is_never_shown(url: str) -> None:
    try:
        config = load({"database_url": url})
    except ConfigError as error:
        shown = f"{error} {error.__cause__} {error!r}"
    else:
        shown = f"{config} {config!r} {config.model_dump()}"
    assert "s3cret" not in shown


def test_the_documentation_has_every_setting_and_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE))
    defaults = {
        name: "none, required"
        if field.is_required()
        else "none"
        if field.default is None
        else f"`{str(field.default).lower().removesuffix('.0')}`"
        if field.default != "127.0.0.1"
        else "`127.0.0.1`"
        for name, field in ServerConfig.model_fields.items()
    }
    assert rows == defaults
