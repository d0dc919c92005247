"""Run a command and tell what it took: `python -I -S launch.py SECONDS COMMAND...` prints code, seconds, peak in KiB.

A process of its own because Linux counts what a program's parent held when it was started as the program's own peak
(execve keeps ru_maxrss): this one holds less than any Python program.
"""

import os
import signal
import sys
import time

bound, *command = sys.argv[1:]
begin = time.perf_counter()
child = os.posix_spawnp(
    command[0],
    command,
    os.environ,
    file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    setpgroup=0,
)
signal.signal(signal.SIGALRM, lambda signum, frame: os.killpg(child, signal.SIGKILL))
signal.alarm(int(bound))
_, status, usage = os.wait4(child, 0)
print(os.waitstatus_to_exitcode(status), time.perf_counter() - begin, usage.ru_maxrss)
