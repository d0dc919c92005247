"""`python -m mailsync`, and what the command `mailsync` begins with."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # before and after a run there is nothing to tell, and no traceback

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
