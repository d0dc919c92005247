"""Run a command and tell what it took: `python -I -S launch.py SECONDS COMMAND...`.

Prints its exit code, its seconds, its CPU seconds and its peak in KiB. After so many SECONDS the process group, which
must be a new one, is killed.

A process of its own because Linux counts what a program's parent held when it was started as the program's own peak
(execve keeps ru_maxrss): this one holds less than any Python program.
"""

import os
import signal
import sys
import time

bound, *command = sys.argv[1:]
signal.signal(signal.SIGALRM, lambda signum, frame: os.killpg(0, signal.SIGKILL))
signal.alarm(int(bound))
begin = time.perf_counter()
child = os.posix_spawnp(
    command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
)
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - begin
print(os.waitstatus_to_exitcode(status), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
