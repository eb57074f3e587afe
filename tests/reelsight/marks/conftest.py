"""Keys, and ledgers in both stores."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reelsight.marks.keys import Keyring, TenantKey
from reelsight.marks.ledger import Ledger, open_store

ROOT = Path(__file__).parents[3]


@pytest.fixture
def keyring() -> Keyring:
    return Keyring((TenantKey(bytes(range(32))),))


@pytest.fixture
def ledger(keyring: Keyring, tmp_path: Path) -> Iterator[Ledger]:
    with open_store(str(tmp_path / "marks.ledger"), create=True) as store:
        yield Ledger(store, keyring)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL of the test run's own, on a socket."""
    pytest.importorskip("psycopg")
    given = os.environ.get("REELSIGHT_POSTGRES_BIN")
    programs = Path(given) if given else ROOT / ".postgres" / "bin"
    if not (programs / "initdb").is_file():
        pytest.skip(f"no PostgreSQL at {programs}: make .postgres/.done")
    # PostgreSQL refuses to run as root, and others cannot look into pytest's directories. A path
    # of a socket is short.
    home = Path(tempfile.mkdtemp(prefix="rs-pg-"))
    other: dict[str, Any] = (
        {"user": 65534, "group": 65534, "extra_groups": ()} if os.getuid() == 0 else {}
    )
    if other:
        os.chown(home, 65534, 65534)
    command = [str(programs / "initdb"), "-D", "data", "-U", "tests", "--auth=trust", "--no-sync"]
    try:
        if other and not _runs([*command[:1], "--version"], other):
            pytest.skip(f"{programs} cannot be run but by root, as whom PostgreSQL refuses to run")
        made = subprocess.run(
            command, cwd=home, capture_output=True, text=True, check=False, **other
        )
        assert made.returncode == 0, made.stderr
        command = [str(programs / "postgres"), "-D", "data", "-k", str(home)]
        command += ["-c", "listen_addresses=", "-c", "log_min_messages=log", "-F"]
        with subprocess.Popen(
            command, cwd=home, stderr=subprocess.PIPE, text=True, **other
        ) as server:
            try:
                assert server.stderr is not None
                said = []
                for line in server.stderr:
                    said.append(line)
                    if "ready to accept connections" in line:
                        break
                else:
                    pytest.fail(f"PostgreSQL ended: {''.join(said)}")
                yield f"postgresql://tests@/postgres?host={home}"
            finally:
                server.terminate()
                server.communicate()
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str, tmp_path: Path) -> Iterator[str]:
    """A schema of the test's own on the server."""
    import psycopg

    schema = f"t{abs(hash(str(tmp_path))):x}"
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(f"CREATE SCHEMA {schema}")
        yield f"{postgres_server}&options=-csearch_path%3D{schema}"
        admin.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a ledger can be: each store in turn."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return str(tmp_path / "marks.ledger")


def _runs(command: list[str], other: dict[str, Any]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, **other).returncode == 0
    except PermissionError:
        return False
