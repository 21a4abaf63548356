"""A facetd with one worker on a GPU (or, to try a script, on the CPU) for the tests of this folder,
and what the driver says of the GPU's memory."""

import ctypes
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEMO_MODEL = os.path.join(ROOT, "configs", "demo-model")
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))

from pool_client import Client  # noqa: E402

WORKER_PAGE_FD = 4  # common/control/fds.h


class GpuMemory:
    """Bytes of GPU 0 that are in use, as the driver's management library says."""

    class _Memory(ctypes.Structure):
        _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]

    def __init__(self):
        self.library = ctypes.CDLL("libnvidia-ml.so.1")
        self._call("nvmlInit_v2")
        self.device = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(0), ctypes.byref(self.device))

    def _call(self, name, *arguments):
        code = getattr(self.library, name)(*arguments)
        if code:
            sys.exit(f"{name}: error {code}")

    def used(self):
        memory = self._Memory()
        self._call("nvmlDeviceGetMemoryInfo", self.device, ctypes.byref(memory))
        return memory.used


class NoMemory:
    """On the CPU: always the same."""

    def used(self):
        return 0


class Pool:
    """Use as a context manager. `sections`: {section: {key: value as TOML writes it}}."""

    def __init__(self, bin_dir, model=DEMO_MODEL, dtype="auto", on_gpu=True, sections=None):
        self.bin_dir = bin_dir
        self.folder = tempfile.mkdtemp(prefix="facet-gpu-")
        self.socket_path = f"{self.folder}/run/facet.sock"
        self.log = f"{self.folder}/facet.log"
        settings = {"model": {"path": f'"{model}"', "dtype": f'"{dtype}"'},
                    "worker": {"count": 1},
                    "broker": {"runtime_dir": f'"{self.folder}/run"'},
                    "log": {"file": f'"{self.log}"'}}
        if on_gpu:
            settings["worker"]["gpus"] = '"0"'
        for name, keys in (sections or {}).items():
            settings.setdefault(name, {}).update(keys)
        with open(f"{self.folder}/facet.toml", "w", encoding="utf-8") as file:
            for name, keys in settings.items():
                file.write(f"[{name}]\n")
                file.writelines(f"{key} = {value}\n" for key, value in keys.items())
        self.env = dict(os.environ, FACET_SOCKET=self.socket_path)
        if not on_gpu:
            self.env["CUDA_VISIBLE_DEVICES"] = ""
        self.process = None

    def __enter__(self):
        read_end, write_end = os.pipe()
        self.process = subprocess.Popen(
            [f"{self.bin_dir}/facetd", "--config", f"{self.folder}/facet.toml",
             "--ready-fd", str(write_end)], pass_fds=[write_end], env=self.env)
        os.close(write_end)
        if not os.read(read_end, 1):
            sys.exit(self.log_lines())
        os.close(read_end)
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            print(self.log_lines()[-4000:], flush=True)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        shutil.rmtree(self.folder)

    def log_lines(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def client(self):
        return Client(self.socket_path)

    def worker(self):
        """Its process id, or None where there is none at the moment."""
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(path, encoding="ascii") as file:
            children = file.read().split()
        for pid in children:
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    program = os.path.basename(file.read().split(b"\0")[0])
            except OSError:
                continue
            if program == b"facet-worker":
                return int(pid)
        return None

    def steps(self):
        """That the engine has finished, by the page that the worker shares with the supervisor
        (common/control/worker_page.h)."""
        with open(f"/proc/{self.worker()}/fd/{WORKER_PAGE_FD}", "rb") as file:
            magic, _, _, _, steps = struct.unpack("<IIQQQ", file.read(32))
        if magic != 0x46574B31:
            sys.exit("the worker's page is not where it was")
        return steps


def wait_until(condition, timeout_s, what):
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"not within {timeout_s} s: {what}")
        time.sleep(0.05)


def wait_settled(client, timeout_s=120):
    wait_until(lambda: all(w["state"] == "ready" and w["settled"]
                           for w in client.status()["workers"]), timeout_s, "settled")


def wait_idle(client, timeout_s=120):
    """The last status."""
    last = {}

    def rests():
        last.update(client.status())
        if last["conservation"] != "ok":
            sys.exit(f"conservation: {last['conservation']}")
        return last["idle"]
    wait_until(rests, timeout_s, "idle")
    return last
