"""The part "deaths" of scripts/bench/gpus.py: one worker dies again and again, the others' streams
are looked at.

How gaps are judged. Only streams that stayed where they were count: those of the other GPUs. A gap
is the time between two tokens of a stream as the client gets them. When a worker is killed from
outside, what it held goes on at the others at once, and prefilling its prompts lengthens steps
there, as any prompt does. So there are two kinds, each with its control from the same streams
before the strike:
  gap_ms         nothing joined: gaps after the strike in which none of the killed ones had yet to
                 get its next token; its control usual_gap_ms: gaps once all streams had begun
  gap_joined_ms  from the strike until the last killed one has its next token: their prompts are
                 prefilled in these steps; its control usual_gap_joined_ms: gaps while not all
                 streams had begun
The GPU's illegal access is the worker's own fault: what it held is suspect, runs alone afterwards,
one at a time, and joins nobody. So there are no joined gaps, and its streams are few and short.
"""

import os
import signal
import statistics
import threading
import time

from load_client import BenchError

TRIES = 5  # until a worker is caught in the midst of answers
MEMORY_S = 10.0  # for the driver to give back what a dead process had
PRELOAD = "libfacet_illegal_access.so"  # tests/gpu/illegal_access.cc
KINDS = {"SIGKILL": (signal.SIGKILL, "streams"), "SIGSEGV": (signal.SIGSEGV, "streams"),
         "illegal_access": (signal.SIGUSR2, "fault_streams")}


def gaps_of(ask):
    """[(begin, end)] of each."""
    return list(zip(ask.times, ask.times[1:]))


def longest(gaps):
    return max((end - begin for begin, end in gaps), default=0.0) * 1000


def judge(asks, struck, is_joining):
    """Figures of one strike; None: it came when nothing was under way at that worker.
    `is_joining`: what was killed goes on among the others' streams, as soon as it can."""
    moved = [ask for ask in asks if ask.done["attempts"] > 1]
    if not moved:
        return None
    begun = max(ask.times[0] for ask in asks)
    # Its longest gap: what was under way to the client when the worker was struck still comes.
    breaks = [max((gap for gap in gaps_of(ask) if gap[1] > struck), key=lambda g: g[1] - g[0])
              for ask in moved]
    back = max(end for _, end in breaks) if is_joining else struck
    stayed = [gap for ask in asks if ask not in moved for gap in gaps_of(ask)]
    before = [gap for gap in stayed if gap[1] <= struck]
    joined = [gap for gap in stayed if gap[1] > struck and gap[0] < back and is_joining]
    quiet = [gap for gap in stayed if gap[1] > struck and (gap[0] >= back or not is_joining)]
    return {"usual_gap_ms": longest(gap for gap in before if gap[0] >= begun),
            "usual_gap_joined_ms": longest(gap for gap in before if gap[0] < begun),
            "gap_ms": longest(quiet), "gap_joined_ms": longest(joined),
            "resume_ms": longest(breaks), "moved": len(moved), "quiet": len(quiet)}


class Deaths:
    def __init__(self, bench):
        self.bench, self.scale, self.count = bench, bench.scale, bench.args.count
        self.preload = os.path.realpath(
            os.path.join(bench.bin_dir, "..", "tests", PRELOAD)) if bench.cards else None
        self.left_out = {}
        if not bench.cards:
            self.left_out["illegal_access"] = "needs a GPU"
        elif not os.path.exists(self.preload):
            raise BenchError(f"{self.preload}: build the target facet_illegal_access first")

    def run(self):
        env = {"LD_PRELOAD": self.preload} if self.preload else None
        with self.bench.daemon(self.count, env=env) as daemon:
            client = daemon.client()
            self.bench.wait_ready(client, self.count)
            # The rehearsal: all was in use once, and a successor stands where the victim stood.
            self.strike(client, "SIGKILL")
            self.bench.wait_ready(client, self.count)
            baseline = self.bench.free_bytes()
            figures = {name: [] for name in KINDS if name not in self.left_out}
            for number in range(self.bench.args.kills):
                if number and self.bench.is_late():
                    break  # "times" says how many there were
                for name, runs in figures.items():
                    runs.append(self.strike(client, name))
                    self.bench.wait_ready(client, self.count)
                self.bench.say(f"deaths {number + 1}: {self.last_of(figures)}")
            lost = self.lost_since(baseline)
            status = client.status()
            client.close()
        workers = status["workers"]
        return {"conservation": status["conservation"], "free_bytes_lost": lost,
                "baseline": "free bytes of each card after all was used and one worker had died",
                "deaths": [w["deaths"] for w in workers],
                "own_fault_deaths": [w["own_fault_deaths"] for w in workers],
                "exit_code_of_the_last": workers[0]["exit_code"],
                "quarantined": status["counters"]["quarantined"], "left_out": self.left_out,
                **{name: self.summary(runs) for name, runs in figures.items()}}

    def lost_since(self, baseline):
        """{card: bytes}, once the driver has settled."""
        deadline = time.monotonic() + MEMORY_S
        while True:
            free = self.bench.free_bytes()
            lost = {uuid: baseline[uuid] - free[uuid] for uuid in baseline}
            if not any(lost.values()) or time.monotonic() > deadline:
                return lost
            time.sleep(0.5)

    @staticmethod
    def last_of(figures):
        return {name: {key: round(runs[-1][key], 1) for key in
                       ("usual_gap_ms", "gap_ms", "gap_joined_ms", "resume_ms")}
                for name, runs in figures.items()}

    @staticmethod
    def summary(runs):
        keys = ("usual_gap_ms", "gap_ms", "usual_gap_joined_ms", "gap_joined_ms", "resume_ms")
        found = {key: round(max(run[key] for run in runs), 2) for key in keys}
        found["medians_of_the_longest"] = {
            key: round(statistics.median(run[key] for run in runs), 2) for key in keys}
        longest_usual = max(run["usual_gap_ms"] for run in runs)
        found["strikes_with_a_longer_gap_than_usual"] = sum(
            run["gap_ms"] > longest_usual for run in runs)
        found["moved"] = sum(run["moved"] for run in runs)
        found["gaps_after"] = sum(run["quiet"] for run in runs)
        found["times"] = len(runs)
        return found

    def strike(self, client, name):
        number, streams = KINDS[name]
        for _ in range(TRIES):
            victim = self.bench.wait_ready(client, self.count)[0]["pid"]
            figures = self.streams(client, victim, number, *self.scale[streams])
            if figures:
                return figures
        raise BenchError(f"{name}: no worker was caught in the midst of answers")

    def streams(self, client, victim, number, each, tokens):
        """Answers on all workers; `victim` gets the signal when all of them run."""
        asks = [self.bench.stream(tokens) for _ in range(each * self.count)]
        struck = []

        def watch():
            while not all(len(ask.times) > self.scale["strike_at"] * tokens for ask in asks):
                if any(ask.ended for ask in asks):
                    return
                time.sleep(0.002)
            struck.append(time.monotonic())
            os.kill(victim, number)
        striker = threading.Thread(target=watch, daemon=True)
        striker.start()
        client.run(asks)
        striker.join()
        return judge(asks, struck[0], number != signal.SIGUSR2) if struck else None
