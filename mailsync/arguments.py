"""The command line as a value: what is asked for, in which mode is decided later by what the names are."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from . import __version__
from .errors import UsageError
from .out import Out

TYPE_CHECKING = False  # as in cli
if TYPE_CHECKING:
    from typing import NoReturn

USAGE = "mailsync [options] CHANNEL[:BOX]... | GROUP... | STORE | CHANNEL STORE"

DESCRIPTION = """\
Keep two stores of mail equal: what is new, deleted or flagged in one becomes so
in the other.

  mailsync CHANNEL         synchronize both stores of a channel
  mailsync CHANNEL:BOX     only this mailbox, or those that match: 'mail:lists/*'
  mailsync STORE           list the mailboxes of a store
  mailsync CHANNEL STORE   tell what happened in a store since the last run
  mailsync --check NAME    tell what is wrong with the mail of a store or channel

Stores and channels are defined in ~/.mailsync:

  store md   { pat Maildir/*  prefix Maildir/ }
  store old  { pat Mail/%     prefix Mail/ }
  channel mail md old { msinfo .msinfo }

Begin with `mailsync md`, which lists; then `mailsync -s mail`, which tells all
and does nothing; then `mailsync mail`. A message that was there last time and is
gone from one store is deleted in the other; one that was not there is copied.
Nothing else is ever deleted, but for further identical copies of a message in
one mailbox."""

EPILOG = """\
exit status:
  0 done                        5 the channel is locked by another run
  1 some of it failed           6 a store cannot be reached, or is not the one seen
  2 usage                       7 login failed
  3 configuration               8 msinfo cannot be read or saved
  4 deletions held by guard     9 certificate      130, 143 stopped by a signal

The options of mailsync 5.2.7 keep their letters: -cd, -di, -dc, -vb, -vw and -vp
are one option each."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """argparse's own wants it for each option, and has the width from shutil, which costs each run 3 ms."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    """As shutil.get_terminal_size."""
    with suppress(KeyError, ValueError):
        if (columns := int(os.environ["COLUMNS"])) > 0:
            return columns
    with suppress(AttributeError, ValueError, OSError):  # stdout may be closed, or no terminal
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    return 80


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"usage: {USAGE}\nmailsync --help tells all options.")

    def _print_message(self, message: str, file: object = None) -> None:
        Out(sys.stdout).write(message)  # argparse itself stumbles over `mailsync --help | true`


def parser() -> argparse.ArgumentParser:
    """All options. Short ones are 5.2.7's; `-h` and `--version` end the program."""
    parser = _Parser(
        prog="mailsync",
        usage=USAGE,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("names", nargs="*", help=argparse.SUPPRESS)

    what = parser.add_argument_group("what is done")
    what.add_argument("-s", "--simulate", action="store_true", help="tell what would be done; write nothing at all")
    what.add_argument("-n", "--no-delete", action="store_true", help="delete no message and no mailbox")
    what.add_argument(
        "-D", "--delete-empty", action="store_true", help="delete mailboxes that are empty in both stores"
    )
    one_way = what.add_mutually_exclusive_group()
    one_way.add_argument("--push", action="store_true", help="change the second store only, as the first one is")
    one_way.add_argument("--pull", action="store_true", help="change the first store only, as the second one is")
    what.add_argument("-cd", "--copy-deleted", action="store_true", help="copy new messages even if marked \\Deleted")
    what.add_argument(
        "--allow-mass-delete", metavar="NUM", type=_count, help="let up to NUM deletions a store pass the guard, once"
    )
    what.add_argument(
        "-t", "--id-type", metavar="TYPE", choices=("msgid", "md5"), default="msgid",
        help="what tells a message: msgid (its Message-ID, the default) or md5 (of some header fields)",
    )  # fmt: skip
    instead = what.add_mutually_exclusive_group()
    instead.add_argument("--undo", action="store_true", help="put back what the last run of a channel has deleted")
    what.add_argument("--retry", action="store_true", help="try messages again at once that failed before")
    instead.add_argument("--plan", metavar="FILE", help="write what a run would do; as -s in all else")
    instead.add_argument("--apply", metavar="FILE", help="carry out such a plan, if it is still the same")
    what.add_argument("--all", action="store_true", help="synchronize all channels")
    what.add_argument("--test-auth", action="store_true", help="log in to the stores, tell how, and log out again")
    what.add_argument("--check", action="store_true", help="tell what is wrong with stores and channels; write nothing")
    what.add_argument("--full", action="store_true", help="take nothing as known; with --check: compare each message")
    what.add_argument("-f", "--config", metavar="FILE", help="configuration file, instead of ~/.mailsync")

    shown = parser.add_argument_group("what is shown")
    shown.add_argument("-m", "--messages", action="store_true", help="a line for each message")
    shown.add_argument("-M", "--message-ids", action="store_true", help="the same, with the message's id")
    shown.add_argument("-q", "--quiet", action="store_true", help="say nothing when nothing happened")
    shown.add_argument("--json", action="store_true", help="JSON lines instead of text")
    shown.add_argument("-vw", "--warnings", action="store_true", help="what is odd, but no error")
    shown.add_argument("-vb", "--verbose-ids", action="store_true", help="each Message-ID that had to be mended")
    shown.add_argument("-vp", "--verbose-parse", action="store_true", help="each header with lines that are no field")
    shown.add_argument("-v", "--verbose", action="store_true", help="all of -vw, -vb and -vp")
    shown.add_argument("-d", "--debug", action="store_true", help="what happens inside; tracebacks of errors")
    shown.add_argument("-di", "--debug-imap", action="store_true", help="the IMAP protocol, without passwords")
    shown.add_argument("-dc", "--debug-config", action="store_true", help="the configuration as it was understood")

    other = parser.add_argument_group("other")
    other.add_argument("-h", "--help", action="help", help="show this")
    other.add_argument("--version", action="version", version=f"mailsync {__version__}", help="tell the version")
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """UsageError for what makes no sense."""
    end = list(argv).index("--") if "--" in argv else len(argv)
    if "-c" in argv[:end]:  # argparse takes it for the beginning of -cd
        parser().error("unknown option -c")
    found = parser().parse_intermixed_args(argv[:end])
    found.names += argv[end + 1 :]  # some versions of argparse take names that begin with "-" for options even there
    found.messages |= found.message_ids
    found.simulate |= found.plan is not None
    if found.plan == "-" and found.json:
        parser().error("--plan - and --json cannot both have stdout")
    if found.verbose:
        found.warnings = found.verbose_ids = found.verbose_parse = True
    return found


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of messages")
    return number
