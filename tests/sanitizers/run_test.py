"""Runs a test of a build with sanitizers; a report of any process that it starts fails it.

    run_test.py NAME REPORTS_DIR [--reports-are-found] COMMAND [argument...]

A worker or broker that ends by a report is replaced like any other, and the test that killed a
dozen more may well pass: so each process writes its reports to REPORTS_DIR/NAME.<pid>, and whoever
finds one there afterwards fails. The exit code is the command's, or 1 with reports. With
--reports-are-found, for programs whose broken rules a report may reveal, they are not looked for.
"""

import ctypes
import glob
import os
import re
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1
HERE = os.path.dirname(os.path.abspath(__file__))
MOST_LINES = 120  # of each report that are shown
KILLED_MEANWHILE = re.compile(r"(==\d+==Unable to get registers from thread \d+\.\n)*")
# The signals of a fault go where they go without a sanitizer: to the handlers that leave last
# words, and to whoever asks how a process ended.
FAULTS = "handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0"


def options(log_path):
    """The environment of each sanitizer's runtime."""
    common = f"log_path={log_path}:{FAULTS}"
    return {
        "UBSAN_REPORTS": log_path,  # report_file.cc
        # Link order: a test may preload a library of its own, which has no malloc() in it.
        "ASAN_OPTIONS": f"{common}:strict_string_checks=1:detect_stack_use_after_return=1"
                        ":verify_asan_link_order=0",
        "UBSAN_OPTIONS": f"{common}:print_stacktrace=1",
        "LSAN_OPTIONS": f"suppressions={HERE}/lsan.supp:print_suppressions=0",
        # A process goes on after a race: the next one is reported, too.
        "TSAN_OPTIONS": f"{common}:suppressions={HERE}/tsan.supp:halt_on_error=0"
                        ":second_deadlock_stack=1:print_suppressions=0",
    }


def is_report(path):
    """Not where the process was killed from outside while LeakSanitizer looked at it, or between
    opening the file and writing: then there is not a byte in it."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return not KILLED_MEANWHILE.fullmatch(file.read())


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main():
    name, folder, *command = sys.argv[1:]
    ignores_reports = command[0] == "--reports-are-found"
    if ignores_reports:
        command.pop(0)
    os.makedirs(folder, exist_ok=True)
    log_path = os.path.join(folder, name)
    for old in glob.glob(f"{log_path}.*"):
        os.unlink(old)
    done = subprocess.run(command, env={**os.environ, **options(log_path)}, check=False,
                          preexec_fn=die_with_parent)
    reports = [] if ignores_reports else sorted(filter(is_report, glob.glob(f"{log_path}.*")))
    for path in reports:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
        print(f"--- {path}\n{''.join(lines[:MOST_LINES])}", flush=True)
    if reports:
        print(f"{name}: sanitizers reported in {len(reports)} processes", flush=True)
        return 1
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


if __name__ == "__main__":
    sys.exit(main())
