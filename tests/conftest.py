"""What all tests share: a home of their own, the original as a peer, and no skipping in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from .mail import ordinary_rights
from .tried import Tally, properties

if TYPE_CHECKING:
    from .disk.story import Stories

settings.register_profile(
    "mailsync",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=bool(os.environ.get("CI")),  # what CI finds must be found again by whoever looks into it
)
settings.load_profile("mailsync")

ORIGINAL = "/usr/bin/mailsync"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped counts as failed")
    parser.addoption("--tried", type=Path, metavar="FILE", help="write the table of what was tried into it")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "torture: takes long; run by make torture")
    config.addinivalue_line("markers", "tried(what): counted by make torture, for the README")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Tally(config.getoption("tried")))
        _install_original()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not os.environ.get("MAILSYNC_TORTURE"):
        items[:] = [item for item in items if "torture" not in item.keywords]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install servers while no test's time runs, and only if a module that was collected brought them in."""
    if "tests.servers" in sys.modules and not session.config.option.collectonly:
        from . import servers

        servers.install()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Comes after Ctrl-C, too."""
    if "tests.servers" in sys.modules:
        from . import servers
        from .servers import matrix

        servers.stop()
        if hasattr(session.config, "workeroutput"):  # this is a process of pytest-xdist
            session.config.workeroutput["matrix"] = matrix.cells()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of pytest-xdist ended."""
    from .servers import matrix

    matrix.merge(getattr(node, "workeroutput", {}).get("matrix", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    from .servers import matrix

    if lines := matrix.lines():
        terminalreporter.section("what was tried on which server")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    outcome = yield
    report = outcome.get_result()
    report.user_properties.extend(properties(item))
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but CI skips nothing: {report.longrepr}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, in which mailsync keeps all its own files, too."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "MAIL", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("USER", "nobody-here")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def place(home: Path) -> Iterator[Path]:
    """For thousands of homes: an empty directory in memory, where that can be."""
    from .test_files import fast_directory

    with fast_directory() as directory:
        yield Path(directory)


@pytest.fixture
def ordinary() -> Iterator[None]:
    """Root, too, may do only what the modes of files allow."""
    with ordinary_rights():
        yield


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Stories:
    """Pairs of stores on a disk that fails: see tests/disk."""
    from .disk.story import Stories

    return Stories(tmp_path_factory.mktemp("disk") / "home")


@pytest.fixture(scope="session")
def original() -> str:
    """mailsync 5.2.7, the real binary."""
    if not Path(ORIGINAL).exists():
        pytest.skip("mailsync 5.2.7 is not installed (apt-get install mailsync)")
    return ORIGINAL


def _install_original() -> None:
    """The peer for the tests of interchange; only root can, and only Debian has it."""
    if Path(ORIGINAL).exists() or os.geteuid() or not shutil.which("apt-get"):
        return
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "mailsync"]):
        subprocess.run(
            command, check=False, capture_output=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
