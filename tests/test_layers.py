"""The layout is the data flow: imports go one way, and what is pure stays pure."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mailsync"
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}

PURE = {
    "across", "addresses", "chains", "mapping", "findings", "inspection",
    "differ", "errors", "groups", "guard", "header", "identity", "model", "names", "plan", "remember",
    "spec", "wording", "config.blocks", "config.grammar", "config.keys", "config.meaning", "config.rings",
    "config.sense", "config.shown", "config.source", "config.tokens",
    "config.values",
    "drivers.contract", "drivers.flags", "drivers.mboxscan", "drivers.mboxtext", "drivers.memory", "msinfo.text",
    "drivers.imap.account", "drivers.imap.answers", "drivers.imap.providers", "drivers.imap.sasl", "drivers.imap.scram",
    "drivers.imap.sets", "drivers.imap.tokens", "drivers.imap.utf7", "report.printable", "spelling",
    "outstanding", "policy", "renames", "planfile", "found",
}  # fmt: skip
WORLD = {
    "os", "io", "socket", "ssl", "subprocess", "select", "fcntl", "pathlib", "shutil", "sqlite3", "rich", "imapclient",
    "imaplib",
}  # fmt: skip

# From the command line down to the values. A module imports from its own layer or from one below it.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"command"},
    {"several"},
    {"runner", "running"},
    {"channel", "check", "modes", "attempts", "undo"},
    {"planner", "apply", "foresight", "removal", "moving", "copying", "waiting", "review", "late"},
    {"planfile"},
    {"settling"},
    {"arguments", "report", "look"},
    {"opening", "auth"},
    {"stores", "state", "secrets", "hooks", "record"},
    {"runlock"},
    {"msinfo", "ledger", "kept"},
    {"cache"},
    {"drivers"},
    {"external", "terminal"},
    {"config", "guard", "chains", "differ", "across", "renames", "inspection", "outstanding", "spelling", "found"},
    {"remember", "groups", "policy"},
    {"plan"},
    {"findings", "identity", "mapping", "names", "spec"},
    {"header"},
    {"addresses"},
    {"model", "errors", "wording", "stopping", "beside", "out", "settled"},
    {"unchanged", "directories", "database", "digest", "__init__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports(path: Path) -> set[str]:
    """All that a module imports, by full name; its own package's modules begin with `mailsync.`."""
    package = ("mailsync", *path.relative_to(PACKAGE).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(
                (*package[: len(package) - node.level + 1], node.module or "") if node.level else [node.module or ""]
            )
            found |= {f"{base.rstrip('.')}.{alias.name}" for alias in node.names}
    return found


def layer(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_module_imports_nothing_of_the_world(module: str) -> None:
    assert not WORLD & {name.split(".")[0] for name in imports(MODULES[module])}


def test_every_module_has_a_layer() -> None:
    assert set(LEVEL) == {layer(module) for module in MODULES}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_one_way(module: str) -> None:
    own = {name.removeprefix("mailsync.") for name in imports(MODULES[module]) if name.startswith("mailsync.")}
    upward = {name for name in own if layer(name) in LEVEL and LEVEL[layer(name)] < LEVEL[layer(module)]}

    assert not upward


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_report_draws_and_only_config_parses(module: str) -> None:
    """Heavy libraries have one place each."""
    places = {"rich": "report", "pyparsing": "config", "sqlite3": "database"}

    assert all(layer(module) == places.get(name.split(".")[0], layer(module)) for name in imports(MODULES[module]))


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_one_module_stands_on_the_libraries_of_imap(module: str) -> None:
    """And `session` names their type."""
    libraries = {"imapclient", "imaplib"} & {name.split(".")[0] for name in imports(MODULES[module])}

    assert not libraries or module in ("drivers.imap.handed", "drivers.imap.session")
