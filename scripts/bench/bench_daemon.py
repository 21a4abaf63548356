"""A facetd of a bench's own: from a list of TOML lines to a daemon that is gone afterwards."""

import os
import shutil
import signal
import subprocess
import tempfile
import time

from load_client import BenchError, LoadClient

CLOCK_HZ = os.sysconf("SC_CLK_TCK")


def _children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _cpu_seconds(pid):
    """(program, CPU seconds of the process and of the children that it has reaped)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            name = os.path.basename(file.read().split(b"\0")[0].decode()) or name
    except OSError:
        return None
    return name, sum(int(word) for word in rest.split()[11:15]) / CLOCK_HZ


class BenchDaemon:
    """`with BenchDaemon(bin_dir, sections) as daemon`; `sections`: {section: {key: TOML value}}."""

    def __init__(self, bin_dir, sections, env=None):
        self.program = os.path.join(bin_dir, "facetd")
        if not os.path.exists(self.program):
            raise BenchError(f"{self.program}: build Facet first")
        self.folder = tempfile.mkdtemp(prefix="facet-bench-")
        self.socket_path = os.path.join(self.folder, "run", "facet.sock")
        self.log = os.path.join(self.folder, "facetd.log")
        self.config = os.path.join(self.folder, "facet.toml")
        sections = {name: dict(keys) for name, keys in sections.items()}
        sections.setdefault("broker", {})["runtime_dir"] = f'"{self.folder}/run"'
        sections.setdefault("log", {})["file"] = f'"{self.log}"'
        with open(self.config, "w", encoding="utf-8") as file:
            for name, keys in sections.items():
                file.write(f"[{name}]\n")
                file.writelines(f"{key} = {value}\n" for key, value in keys.items())
        self.env = dict(os.environ, **(env or {}))
        self.process, self.began = None, None

    def __enter__(self):
        self.began = time.monotonic()
        with open(os.path.join(self.folder, "stderr"), "wb") as stderr:
            self.process = subprocess.Popen(
                [self.program, "--config", self.config, "--exit-with-parent"], env=self.env,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
        while not os.path.exists(self.socket_path):
            if self.process.poll() is not None or time.monotonic() - self.began > 60:
                self.__exit__(BenchError, None, None)
                raise BenchError("facetd did not start")
            time.sleep(0.002)
        return self

    def alive(self):
        return self.process.poll() is None

    def client(self):
        client = LoadClient(self.socket_path)
        client.alive = self.alive
        return client

    def cpu_seconds(self):
        """{program: CPU seconds so far}, of the whole family."""
        totals, family = {}, [self.process.pid]
        for pid in family:
            family.extend(_children(pid))
            found = _cpu_seconds(pid)
            if found:
                totals[found[0]] = totals.get(found[0], 0.0) + found[1]
        return totals

    def _tail(self, lines=30):
        for path in (os.path.join(self.folder, "stderr"), self.log):
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    print(f"--- {path}\n" + "".join(file.readlines()[-lines:]), flush=True)

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self._tail()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
