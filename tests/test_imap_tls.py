"""Whom TLS trusts: as strictly as Python does, whichever way the system's authorities are read."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailsync.drivers.imap import tls
from mailsync.drivers.imap.account import Account
from mailsync.drivers.imap.dial import dial
from mailsync.errors import CertificateError
from mailsync.spec import Remote

from .test_imap_dial import Authority, Known, account, openssl, refused, running, within_tls

PATHS = ssl.get_default_verify_paths()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No context of another system is left over."""
    tls.context.cache_clear()
    yield
    tls.context.cache_clear()


def system(monkeypatch: pytest.MonkeyPatch, file: Path | None, directory: Path | None, **own: Any) -> None:
    """Where this machine has its authorities; `own`, where the user has not named others."""
    named: dict[str, Any] = {"cafile": file and str(file), "capath": directory and str(directory)}
    own = {f"openssl_{name}": path or "/nowhere" for name, path in named.items()} | own
    found = PATHS._replace(**own, **named)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: found)


def hashed(directory: Path, *certificates: Path) -> Path:
    directory.mkdir()
    for certificate in certificates:
        (directory / certificate.name).write_bytes(certificate.read_bytes())
    openssl("rehash", directory)
    return directory


def test_context_is_as_strict_as_pythons_own() -> None:
    def strictness(context: ssl.SSLContext) -> tuple[object, ...]:
        versions = context.minimum_version, context.maximum_version
        return context.check_hostname, context.verify_mode, context.verify_flags, context.options, versions

    assert strictness(ssl.create_default_context()) == strictness(tls.context(Account(Remote("x", ssl=True))))


@pytest.mark.parametrize("with_file", [True, False])
def test_authority_is_found_by_its_hash(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_file: bool
) -> None:
    file = authority.papers.cert if with_file else None
    system(monkeypatch, file, hashed(tmp_path / "certs", authority.papers.cert))
    with running(within_tls(authority.good)) as found:
        where = account(found.port, "/ssl")
        before = tls.context(where).get_ca_certs()
        dial(where, Known()).end()

    assert ([], 1) == (before, len(tls.context(where).get_ca_certs()))


def test_authority_that_is_not_in_the_directory_is_not_trusted(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system(monkeypatch, None, hashed(tmp_path / "certs", authority.self_signed.cert))

    assert CertificateError is type(refused(within_tls(authority.good), None, "/ssl")[0])


def test_name_is_compared_with_a_directory_too(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system(monkeypatch, None, hashed(tmp_path / "certs", authority.papers.cert))
    err, _ = refused(within_tls(authority.other_name), None, "/ssl")

    assert "it is for mail.example.org" in str(err)


def test_directory_counts_only_if_the_file_cannot_hold_more(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, one = tmp_path / "both.pem", authority.papers.cert
    both.write_bytes(one.read_bytes() + authority.self_signed.cert.read_bytes())
    certs, plain, none = hashed(tmp_path / "certs", one), tmp_path / "plain", tmp_path / "none"
    plain.mkdir()
    (plain / "authority.pem").write_bytes(one.read_bytes())

    found = []
    for file, directory in [(one, certs), (None, certs), (both, certs), (one, plain), (one, none), (none, certs)]:
        system(monkeypatch, file, directory)
        found.append(tls._directory())

    assert [str(certs), str(certs), None, None, None, None] == found


@pytest.mark.parametrize("name", ["cafile", "capath"])
def test_directory_does_not_count_where_the_user_names_others(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """SSL_CERT_FILE, SSL_CERT_DIR."""
    file = authority.papers.cert
    system(monkeypatch, file, hashed(tmp_path / "certs", file), **{f"openssl_{name}": "/elsewhere"})

    assert None is tls._directory()


def test_file_of_the_user_counts_instead_of_the_systems(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system(monkeypatch, None, hashed(tmp_path / "certs", authority.papers.cert))
    err, _ = refused(within_tls(authority.good), None, "/ssl", ca=str(authority.self_signed.cert))

    assert CertificateError is type(err)
