"""How late the host wakes us up, and deadlines of the daemon that are long enough for it."""

import os
import subprocess
import threading
import time

SHORT_S = 3.0  # a deadline on a host that has nothing else to do
LONG_S = 15.0  # on one that has hardly any time for us: who is stopped holds up all for so long
STALLS = 10  # a deadline is so many of the longest stall: others are woken up later than we are
NAP_S = 0.02
PROBE_CPU_S = 0.2
RELOAD_S = 60.0

SUPERVISOR = ("step_deadline_ms = {worker_ms}\nidle_deadline_ms = {worker_ms}\n"
              "broker_deadline_ms = {broker_ms}\n")


def seconds_for(cpu_seconds):
    """How long it takes to be given so much time of a processor."""
    started, spent = time.monotonic(), time.thread_time()
    while time.thread_time() - spent < cpu_seconds:
        pass
    return time.monotonic() - started


def lines(deadline_s):
    return SUPERVISOR.format(worker_ms=round(deadline_s * 1000),
                             broker_ms=round(deadline_s * 1000) + 1000)


def reload(pool, before, after):
    """Puts a changed configuration in effect; returns whether it is."""
    with open(pool.config, encoding="utf-8") as file:
        text = file.read()
    if before not in text:
        raise AssertionError(f"not in the configuration: {before}")
    with open(pool.config, "w", encoding="utf-8") as file:
        file.write(text.replace(before, after))
    command = [os.path.join(pool.bin_dir, "facet"), "reload", "--config", pool.config]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=RELOAD_S, check=False)
        if done.returncode == 0:
            return True
        print(f"facet reload: exit {done.returncode}\n{done.stdout}{done.stderr}", flush=True)
    except subprocess.TimeoutExpired:
        print(f"facet reload: no end within {RELOAD_S} s", flush=True)
    with open(pool.config, "w", encoding="utf-8") as file:
        file.write(text)
    return False


class HostWatch(threading.Thread):
    """Lengthens the deadlines of a pool as the host turns out to be busier: a process that the
    host does not let run is not one that hangs."""

    def __init__(self):
        super().__init__(daemon=True)
        self.deadline_s = min(LONG_S, SHORT_S * max(1.0, seconds_for(PROBE_CPU_S) / PROBE_CPU_S))
        self.longest_stall_s = 0.0
        self.pool = None
        self.stopping = threading.Event()

    def supervisor_lines(self):
        return lines(self.deadline_s)

    def follow(self, pool):
        self.pool = pool
        self.start()

    def stop(self):
        self.stopping.set()
        self.join()

    def run(self):
        before = time.monotonic()
        while not self.stopping.wait(NAP_S):
            now = time.monotonic()
            self.longest_stall_s = max(self.longest_stall_s, now - before - NAP_S)
            wanted_s = min(LONG_S, STALLS * self.longest_stall_s)
            if wanted_s > self.deadline_s:
                # Some more than needed, so that it is not needed again at once.
                wanted_s = min(LONG_S, 1.5 * wanted_s)
                if reload(self.pool, lines(self.deadline_s), lines(wanted_s)):
                    print(f"the host stalled for {self.longest_stall_s:.2f} s: deadlines of "
                          f"{wanted_s:.0f} s", flush=True)
                    self.deadline_s = wanted_s
            before = time.monotonic()
