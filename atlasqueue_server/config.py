"""The server's configuration: every setting with its default and bound, validated here only.

Precedence: flags, then ATLASQUEUE_* variables, then the TOML file, then defaults.
docs/configuration.md has the same list for people; a test compares them.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from atlasqueue_server.model import limits
from atlasqueue_server.startup import StartupError, TlsFiles

ENV_PREFIX: Final = "ATLASQUEUE_"
FILE_VARIABLE: Final = "ATLASQUEUE_CONFIG"
LOOPBACK: Final = "127.0.0.1"


class ConfigError(StartupError):
    """Settings are wrong. `problems` has a sentence for each."""

    exit_code: ClassVar[int] = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class ServerConfig(BaseSettings):
    """All settings of a server. Built directly it ignores the environment; see `load`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: SecretStr = Field(
        description="PostgreSQL to use: postgresql://user:password@host:5432/database"
    )
    host: str = Field(default=LOOPBACK, description="Address to listen on; an IP address or a name")
    grpc_port: int = Field(default=limits.GRPC_PORT, ge=0, le=65535, description="0: any free port")
    http_port: int = Field(default=limits.HTTP_PORT, ge=0, le=65535, description="0: any free port")
    processes: int = Field(
        default=1,
        ge=1,
        le=limits.PROCESSES_MAX,
        description="Server processes that share the gRPC port; each has an HTTP port of its own",
    )
    tls_cert: Path | None = Field(
        default=None, description="PEM file with the server's certificate chain"
    )
    tls_key: Path | None = Field(default=None, description="PEM file with its key")
    tls_client_ca: Path | None = Field(
        default=None, description="PEM file; clients must show a certificate that it signed"
    )
    insecure: bool = Field(
        default=False, description="Allow an address that others can reach without TLS"
    )
    database_pool_min: int = Field(default=4, ge=1, le=100, description="Connections kept open")
    database_pool_max: int = Field(default=10, ge=2, le=100, description="Connections at most")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What is logged"
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="How it is logged"
    )
    drain_grace_seconds: float = Field(
        default=30.0, ge=0, le=3600, description="How long a stop waits for running calls"
    )
    max_connection_age_seconds: float = Field(
        default=1800.0,
        ge=0,
        le=86_400,
        description="gRPC connections are renewed after so long; 0: never",
    )
    leader_lease_seconds: float = Field(
        default=limits.LEADER_LEASE_S,
        ge=limits.LEADER_LEASE_S_MIN,
        le=limits.LEADER_LEASE_S_MAX,
        description="Another server leads so long after the leader was last heard",
    )
    ping_interval_seconds: float = Field(
        default=limits.PING_INTERVAL_S,
        ge=limits.PING_INTERVAL_S_MIN,
        le=limits.PING_INTERVAL_S_MAX,
        description="Streams of workers are pinged so often",
    )
    write_timeout_seconds: float = Field(
        default=limits.WRITE_TIMEOUT_S,
        ge=limits.WRITE_TIMEOUT_S_MIN,
        le=limits.WRITE_TIMEOUT_S_MAX,
        description="A stream whose client does not read for so long is closed",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave the sources to `load`, which knows where each value came from."""
        return (init_settings,)

    @property
    def tls(self) -> TlsFiles | None:
        """The TLS files, or None for plain text."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return TlsFiles(self.tls_cert, self.tls_key, self.tls_client_ca)

    @field_validator("database_url")
    @classmethod
    def _database_url_is_postgresql(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if not url.startswith(("postgresql://", "postgres://")) and "=" not in url:
            raise _refusal("must look like postgresql://user:password@host:5432/database")
        return value

    @field_validator("max_connection_age_seconds")
    @classmethod
    def _connections_last_a_while(cls, value: float) -> float:
        if 0 < value < 10:
            raise _refusal("must be 0 (never) or at least 10")
        return value

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        if self.database_pool_min > self.database_pool_max:
            raise _refusal("database_pool_min: must not be above database_pool_max")
        self._check_processes()
        self._check_tls()
        if self.tls is None and not self.insecure and not is_loopback(self.host):
            raise _refusal(
                f"host: {self.host or '(empty)'} can be reached by others, and whoever reaches "
                "AtlasQueue controls it. Give tls_cert and tls_key (and tls_client_ca, to let only "
                "clients with a certificate in), or set insecure if the network itself is trusted"
            )
        return self

    def _check_processes(self) -> None:
        if self.processes == 1:
            return
        if not hasattr(socket, "SO_REUSEPORT"):
            raise _refusal("processes: must be 1 on this system, which has no SO_REUSEPORT")
        if self.http_port == 0:
            return
        last = self.http_port + self.processes - 1
        if last > 65_535:
            raise _refusal(f"processes: their HTTP ports would end at {last}, above 65535")
        if self.http_port <= self.grpc_port <= last:
            raise _refusal(
                f"processes: their HTTP ports {self.http_port} to {last} must not take in grpc_port "
                f"{self.grpc_port}"
            )

    def _check_tls(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise _refusal("tls_cert: must be given together with tls_key")
        if self.tls_client_ca is not None and self.tls is None:
            raise _refusal("tls_client_ca: needs tls_cert and tls_key")
        if self.tls is not None:
            try:
                self.tls.check()
            except ValueError as error:
                raise _refusal(str(error)) from error


def load(flags: Mapping[str, Any], config_file: Path | None = None) -> ServerConfig:
    """The configuration from all sources.

    Args:
        flags: values by setting name; None means that the flag was not given.
        config_file: TOML file; by default the one that ATLASQUEUE_CONFIG names, if any.

    Raises:
        ConfigError: with a sentence for each wrong setting, naming its source and bound.
    """
    path = config_file or (Path(name) if (name := os.environ.get(FILE_VARIABLE)) else None)
    from_file = _read(path) if path else {}
    from_env = EnvSettingsSource(ServerConfig)()
    from_flags = {name: value for name, value in flags.items() if value is not None}
    sources = (
        {name: f"{name} in {path}" for name in from_file}
        | {name: f"{ENV_PREFIX}{name.upper()}" for name in from_env}
        | {name: f"--{name.replace('_', '-')}" for name in from_flags}
    )
    try:
        return ServerConfig(**(from_file | from_env | from_flags))
    except ValidationError as error:
        raise ConfigError([_sentence(item, sources) for item in error.errors()]) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError([f"config file {path}: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"config file {path}: is no TOML: {error}"]) from error


def _refusal(sentence: str) -> PydanticCustomError:
    # As it stands, without the "Value error, " that pydantic puts before a ValueError.
    return PydanticCustomError("setting", "{sentence}", {"sentence": sentence})


def _sentence(error: ErrorDetails, sources: Mapping[str, str]) -> str:
    if not error["loc"]:
        return error["msg"]
    name = str(error["loc"][0])
    if error["type"] == "missing" and name == "database_url":
        return (
            "database_url: is not set. Give --database-url, ATLASQUEUE_DATABASE_URL or a line in "
            "a config file; `atlasqueue-server dev` brings a PostgreSQL of its own"
        )
    if error["type"] == "extra_forbidden":
        known = ", ".join(ServerConfig.model_fields)
        return f"{sources.get(name, name)}: there is no such setting; there are {known}"
    message = error["msg"].removeprefix("Input should be ")
    wanted = message if message != error["msg"] else ""
    return f"{sources.get(name, name)}: {'must be ' + wanted if wanted else message}"
