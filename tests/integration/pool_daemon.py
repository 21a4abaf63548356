"""A private facetd with echo workers for a test, and a look at it: its processes through /proc, and
what its broker says by a pool_client.Client."""

import os
import shutil
import signal
import subprocess
import tempfile
import time

from patience import patient, patient_ms


def children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def program_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.path.basename(file.read().split(b"\0")[0].decode())
    except (FileNotFoundError, ProcessLookupError):
        return ""


def state_of(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def family_of(pid):
    """The process, its children, theirs and so on."""
    family = [pid]
    for member in family:
        family.extend(children_of(member))
    return family


def everything_is_gone(pids):
    return all(state_of(pid) in ("", "Z") for pid in pids)


def open_fds(pid):
    """What its descriptors are of, sorted. Without files of /proc: the supervisor has one open for
    as long as it takes to read how a child is, which no count may depend on."""
    folder = f"/proc/{pid}/fd"
    targets = []
    for number in os.listdir(folder):
        try:
            targets.append(os.readlink(f"{folder}/{number}"))
        except FileNotFoundError:
            pass  # closed since
    return sorted(target for target in targets if not target.startswith("/proc/"))


def count_fds(pid):
    return len(open_fds(pid))


def wait_until(condition, timeout_s, what):
    deadline = time.monotonic() + patient(timeout_s)
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s: {what}")
        time.sleep(0.02)


def wait_ready(client, count, timeout_s):
    def ready():
        return sum(w["state"] == "ready" for w in client.status()["workers"]) == count
    wait_until(ready, timeout_s, f"{count} workers ready")


def wait_idle(client, timeout_s):
    """Until nothing is left to do; the books balance all the while. Returns the last status."""
    status = {}

    def rests():
        status.update(client.status())
        assert status["conservation"] == "ok", status["conservation"]
        return status["idle"]
    try:
        wait_until(rests, timeout_s, "the pool is idle")
    except TimeoutError as error:
        raise TimeoutError(f"{error}: {status}") from None
    return status


DRAIN_MS = patient_ms(5000)
CONFIG = """
[worker]
engine = "echo"
count = {workers}
{worker}
[broker]
runtime_dir = "{folder}/run"
{broker}
[ring]
{ring}
[ledger]
{ledger}
[decoder]
processes = 2
{decoder}
[supervisor]
drain_ms = {drain_ms}
{supervisor}
[log]
level = "{log_level}"
file = "{folder}/facet.log"
"""


class Daemon:
    """Use as a context manager. Keyword arguments are TOML lines of the sections of their name.

    `through`: a command that execs what follows it; `env`: more of the environment.
    """

    def __init__(self, bin_dir, workers=3, log_level="info", through=(), env=None, **sections):
        self.bin_dir = bin_dir
        self.folder = tempfile.mkdtemp(prefix="facet-pool-")
        self.config = os.path.join(self.folder, "facet.toml")
        self.num_workers = workers
        self.through, self.env = through, env or {}
        sections.setdefault("ring", 'ingest_bytes = "64MiB"\npixel_bytes = "128MiB"')
        lines = {name: sections.get(name, "")
                 for name in ("worker", "broker", "ring", "ledger", "decoder", "supervisor")}
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(folder=self.folder, workers=workers, log_level=log_level,
                                     drain_ms=DRAIN_MS, **lines))
        self.socket_path = os.path.join(self.folder, "run", "facet.sock")
        self.process = None

    def __enter__(self):
        with open(os.path.join(self.folder, "stderr.log"), "wb") as log:
            self.process = subprocess.Popen(
                [*self.through, os.path.join(self.bin_dir, "facetd"), "--config", self.config],
                env=dict(os.environ, **self.env), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until(lambda: os.path.exists(self.socket_path), 60, "client socket")
            wait_until(lambda: len(self.workers()) == self.num_workers, 60, "workers")
        except TimeoutError:
            print(self.log_tail())
            self.stop()
            raise
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            print(self.log_tail())
        self.stop(patience_s=0.5)
        if kind is None:
            shutil.rmtree(self.folder)

    def log_tail(self, lines=60):
        text = ""
        for name in ("stderr.log", "facet.log"):
            path = os.path.join(self.folder, name)
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    text += f"--- {path}\n" + "".join(file.readlines()[-lines:])
        return text

    def pids(self, program):
        return [p for p in children_of(self.process.pid) if program_of(p) == program]

    def workers(self):
        return self.pids("facet-worker-echo")

    def broker(self):
        return self.pids("facet-broker")[0]

    def stop(self, timeout_s=15.0, patience_s=None):
        """SIGTERM, and another one when the drain has not ended after `patience_s`; returns the
        exit code. Nothing of it may be left 5 s later."""
        if self.process is None or self.process.poll() is not None:
            return None if self.process is None else self.process.returncode
        family = family_of(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        try:
            if patience_s is not None:
                try:
                    self.process.wait(patience_s)
                except subprocess.TimeoutExpired:
                    self.process.send_signal(signal.SIGTERM)
            self.process.wait(patient(timeout_s))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise TimeoutError(f"facetd did not end within {timeout_s} s of SIGTERM") from None
        wait_until(lambda: everything_is_gone(family), 5, "its processes end")
        return self.process.returncode
