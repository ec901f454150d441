"""The command line against a server with TLS."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from tests.cli.running import Cli
from tests.plugins.server import ServerFactory


@pytest.mark.parametrize("mutual", [False, True])
async def test_commands_talk_to_a_server_with_tls(
    silent_server: None,
    migrated_database_url: str,
    start_server: ServerFactory,
    tmp_path: Path,
    mutual: bool,
) -> None:
    authority = trustme.CA()
    files = {name: str(tmp_path / name) for name in ("ca", "cert", "key", "own-cert", "own-key")}
    authority.cert_pem.write_to_path(files["ca"])
    for prefix, name in (("", "127.0.0.1"), ("own-", "person.test")):
        pair = authority.issue_cert(name)
        pair.cert_chain_pems[0].write_to_path(files[f"{prefix}cert"])
        pair.private_key_pem.write_to_path(files[f"{prefix}key"])
    settings: dict[str, object] = {"tls_cert": files["cert"], "tls_key": files["key"]}
    options = ["--tls-ca", files["ca"]]
    if mutual:
        settings["tls_client_ca"] = files["ca"]
        options += ["--tls-cert", files["own-cert"], "--tls-key", files["own-key"]]
    server = await start_server(migrated_database_url, **settings)
    cli = Cli(server.grpc_address)
    ended = await cli("enqueue", "q", "k", "sealed", *options)
    assert ended.code == 0, ended.err
    assert (await cli("get", ended.out.strip(), "--only", "payload", *options)).out == "sealed"
    plain = await cli("queues", "list", "--retry-for", "0")
    assert (plain.code, plain.out) == (4, "")
