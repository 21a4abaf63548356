"""A real facetd with echo workers, in a folder of its own."""

import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from patience import patient
from pool_daemon import count_fds


def wait_for(what, condition, timeout=10.0):
    """The condition's first true value; polls, with a deadline."""
    deadline = time.monotonic() + patient(timeout)
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not seen in {timeout} s: {what}"
        time.sleep(0.001)


def children_of(pid):
    """{pid: command line} of a process's children."""
    found = {}
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            pids = file.read().split()
    except OSError:
        return found
    for child in pids:
        try:
            with open(f"/proc/{child}/cmdline", "rb") as file:
                found[int(child)] = file.read().replace(b"\0", b" ").decode()
        except OSError:
            pass
    return found


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Daemon:
    """facetd in a temporary folder. `stand_ins`: {program name: shell script, or None: missing}."""

    def __init__(self, bin_dir, num_workers=2, supervisor="", worker="", stand_ins=None,
                 folder=None, arguments=(), through=(), wait=True):
        self.folder = folder or tempfile.mkdtemp(prefix="facetd-")
        self.owns_folder = folder is None
        self.run_dir = os.path.join(self.folder, "run")
        self.socket_path = os.path.join(self.run_dir, "facet.sock")
        self.config = os.path.join(self.folder, "facet.toml")
        if self.owns_folder:
            with open(self.config, "w") as file:
                file.write(f'[worker]\nengine = "echo"\ncount = {num_workers}\n{worker}\n'
                           f'[broker]\nruntime_dir = "{self.run_dir}"\n'
                           '[ring]\ningest_bytes = "8MiB"\npixel_bytes = "32MiB"\n'
                           '[ledger]\nbytes = "8MiB"\nmax_records = 256\n'
                           f'[supervisor]\n{supervisor}\n')
        self.bin_dir = self.make_bin(bin_dir, stand_ins) if stand_ins else bin_dir
        self.log_path = os.path.join(self.folder, f"log-{time.monotonic_ns()}")
        self.ready_read, ready_write = os.pipe()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind("\0" + os.path.basename(self.log_path))
        environment = dict(os.environ, NOTIFY_SOCKET="@" + os.path.basename(self.log_path))
        self.started = time.monotonic()
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                [*through, os.path.join(self.bin_dir, "facetd"), "--config", self.config,
                 "--ready-fd", str(ready_write), *arguments], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=log, pass_fds=(ready_write,), env=environment)
        os.close(ready_write)
        self.pid = self.process.pid
        if wait:
            assert self.wait_ready(), self.log()

    def make_bin(self, bin_dir, stand_ins):
        """Programs find each other beside themselves: copies of the real ones, and stand-ins."""
        made = os.path.join(self.folder, "bin")
        os.mkdir(made)
        for name in ("facetd", "facet-broker", "facet-decoder", "facet-worker-echo"):
            target = os.path.join(made, name)
            if name not in stand_ins:
                shutil.copy(os.path.join(bin_dir, name), target)
            elif stand_ins[name] is not None:
                with open(target, "w") as file:
                    file.write("#!/bin/sh\n" + stand_ins[name] + "\n")
                os.chmod(target, 0o755)
        return made

    def wait_ready(self, timeout=20):
        """True: the byte came. False: the descriptor was closed without it."""
        readable, _, _ = select.select([self.ready_read], [], [], patient(timeout))
        assert readable, f"neither ready nor failed in {timeout} s:\n{self.log()}"
        return os.read(self.ready_read, 1) == b"1"

    def notifications(self):
        found = []
        while select.select([self.notify], [], [], 0)[0]:
            found += self.notify.recv(4096).decode().split("\n")
        return found

    def log(self):
        with open(self.log_path) as file:
            return file.read()

    def children(self):
        return children_of(self.pid)

    def pid_of(self, part):
        """Of the child whose command line contains `part`, after its exec."""
        return next((pid for pid, line in self.children().items() if part in line), None)

    def pids(self):
        parts = ["facet-broker", "facet-decoder", "--worker 0", "--worker 1"]
        return {part: self.pid_of(part) for part in parts}

    def num_ready(self):
        """Workers that said so, over all lives."""
        return self.log().count("is ready after") - self.log().count("broker is ready after")

    def wait_replaced(self, part, former, timeout=10):
        return wait_for(f"a successor of {part}",
                        lambda: (lambda pid: pid if pid != former else None)(self.pid_of(part)),
                        timeout)

    def num_fds(self):
        return count_fds(self.pid)

    def stop(self, signals=(signal.SIGTERM,), timeout=20):
        for number in signals:
            os.kill(self.pid, number)
        return self.wait(timeout)

    def wait(self, timeout=20):
        code = self.process.wait(patient(timeout))
        self.close()
        return code

    def close(self):
        os.close(self.ready_read)
        self.notify.close()
        self.process.stdout.close()
        if self.owns_folder:
            self.final_log = self.log()
            self.left_over = os.listdir(self.run_dir) if os.path.isdir(self.run_dir) else []
            shutil.rmtree(self.folder)
