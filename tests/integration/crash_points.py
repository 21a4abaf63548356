"""Every step at which a process can die, and one dying or stopping there: real processes.

    crash_points.py BIN_DIR [--seed N] [--points a,b] [--actions kill,stop] [--stop-s 30]
                    [--deadline-s N] [--in-a-row 1,2,3] [--daemons 3]

BIN_DIR: the programs with crash points (tests/crash_points). In each round one process is caught at
one point, in the midst of a mixed load, and killed, or stopped for longer than its deadline allows
(deadlines are configured short; with --stop-s 30 they are the defaults, by which a broker is ended
after 10 s; with --deadline-s 60 as well it goes on after 30 s). Every answer must be the
computed one, and everything must be back afterwards: nothing lost, doubled, changed or leaked.
Points of recovery are met after a death or a restart, so those rounds begin with one. Where a new
broker recovers, or a worker greets it, whoever comes there is killed once, twice or three times in
a row (by chance; each of --in-a-row), with requests in flight that have images.
The rounds are shared by some daemons side by side, because most of their time they wait.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pool_client
import pool_oracle
from crash_table import CrashTable, points_of_table
from patience import patient, patient_ms
from pool_case import jpeg
from pool_client import Client, Request
from pool_daemon import Daemon, open_fds, state_of, wait_until

# A load may be over, for all but its client, when something happens to a process.
ATTEMPTS = 4
# Points that are met only after something has happened.
AFTER_A = {
    "broker": ("recovery.", "takeover.", "ledger.attach", "hello.", "resume.",
               "worker.broker_lost", "worker.hello", "worker.resumed"),
    "worker": ("death.", "reap."),
    "decoder": ("decode.lost", "decode.requeued"),
    "restart": ("drain.",),
}
IN_A_ROW = (1, 2, 3)
# Points that a load as short as this may never meet: an end of a record.
MAY_BE_MET = {"ledger.erased"}
# Every point that the load must meet: a point that is gone or misspelt is a failure.
POINTS = [point for point in points_of_table() if point not in MAY_BE_MET]

SHORT = (f"step_deadline_ms = {patient_ms(1000)}\nidle_deadline_ms = {patient_ms(1000)}\n"
         f"broker_deadline_ms = {patient_ms(1000)}\n"
         "kill_grace_ms = 300\n")
# Who waits to be killed must not look hung before: the client may first have to find out that
# nobody answers for any of its descriptors.
DEFAULT = (f"idle_deadline_ms = {patient_ms(5000)}\nbroker_deadline_ms = {patient_ms(10_000)}\n")
SHORT_STOP_LIMIT_S = patient(30)  # with deadlines as these, a stopped process has been ended


class Round:
    """A daemon, a client, and what is checked after each load."""

    def __init__(self, bin_dir, rng, stop_s, deadline_s, has_stops):
        self.rng = rng
        self.stop_s = stop_s
        self.restart = None  # `facet restart` of a worker, while it runs
        deadlines = ""
        if deadline_s:
            deadlines = "".join(f"{name}_deadline_ms = {round(deadline_s * 1000)}\n"
                                for name in ("step", "idle", "broker"))
        elif not stop_s:
            deadlines = SHORT if has_stops else DEFAULT
        self.daemon = Daemon(bin_dir, workers=2, worker="echo.token_us = 3000\ncredits = 4",
                             supervisor="restart_backoff_ms = 50\nrestart_backoff_max_ms = 200\n" +
                             deadlines,
                             decoder="" if stop_s else f"cpu_seconds = {round(patient(1))}")
        points = os.path.join(self.daemon.folder, "points")
        self.table = CrashTable(points)
        self.daemon.env["FACET_CRASH_POINTS"] = points
        self.daemon.__enter__()
        self.client = Client(self.daemon.socket_path, watches=True, hands_over=True)
        self.client.fd_pause_s = 0.0  # or a short load after a kill has none
        self.wait_ready()
        self.images = [jpeg(rng.randint(8, 300), rng.randint(8, 300)) for _ in range(5)]
        self.images.append(jpeg(700, 600))  # copied in several pieces
        self.run_load(lambda: None)
        self.fds = open_fds(self.daemon.process.pid)

    def close(self):
        self.client.close()
        self.daemon.stop()

    def wait_ready(self):
        def ready():
            try:
                workers = self.client.status(2.0)["workers"]
            except TimeoutError:  # the broker died with the question
                return False
            return sum(w["state"] == "ready" for w in workers) == 2
        wait_until(ready, 60, "both workers ready")

    def short_load(self):
        rng = self.rng
        return [Request(f"question {rng.random()}", rng.choices(self.images, k=i % 3),
                        {"max_tokens": rng.randint(1, 60), "seed": rng.randrange(1 << 60)})
                for i in range(12)]

    def long_load(self, num_tokens):
        return [Request(f"question {self.rng.random()}", self.rng.choices(self.images, k=1 + i % 2),
                        {"max_tokens": num_tokens, "ignore_eos": True}) for i in range(10)]

    def run_load(self, on_turn, requests=None):
        requests = requests or self.short_load()
        # Without an image: a worker sees the pixels of one retired before it is told.
        cancelled = Request("cancel me", [], {"max_tokens": 12000, "ignore_eos": True})
        asked = [0.0]

        def turn():
            on_turn()
            if cancelled.tokens and not cancelled.finished and time.monotonic() > asked[0]:
                asked[0] = time.monotonic() + 1.0  # a cancel may die with its broker
                self.client.cancel(cancelled)
        self.client.run(requests + [cancelled], timeout_s=120, on_turn=turn)
        for request in requests:
            assert request.done is not None, request.refused
            tokens, text, reason = pool_oracle.answer(request)
            assert request.done["finish_reason"] == reason, request.done
            assert request.tokens == tokens and request.text == text, "another answer"
        reason = cancelled.done["finish_reason"]
        if self.stop_s and reason == "length":  # its worker was through before the stop was over
            assert (cancelled.tokens, cancelled.text) == pool_oracle.answer(cancelled)[:2]
        else:
            assert reason == "cancelled", cancelled.done

    def restarts(self):
        """An operator's command is under way: on a busy host it begins when the load is over."""
        return self.restart is not None and self.restart.poll() is None

    def is_at_work(self):
        """There is a record that a next broker would find."""
        return any(r.accepted and not r.finished for r in self.client.requests.values())

    def has_images_at_work(self):
        return any(r.accepted and r.images and not r.finished
                   for r in self.client.requests.values())

    def let_happen(self, what):
        """Ends a process, or has a worker restarted by an operator, which goes on meanwhile."""
        if what == "restart":
            self.restart = subprocess.Popen(
                [os.path.join(self.daemon.bin_dir, "facet"), "restart", "--worker", "0",
                 "--config", self.daemon.config], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return
        program = {"worker": "facet-worker-echo"}.get(what, f"facet-{what}")
        os.kill(self.rng.choice(self.daemon.pids(program)), signal.SIGKILL)

    def let_all_happen(self):
        for what in AFTER_A:
            todo = [what]

            def begin(todo=todo):
                if todo and self.is_at_work():
                    self.let_happen(todo.pop())
            self.run_load(begin)
            self.assert_whole()

    def assert_whole(self):
        """Everything is back where it was."""
        if self.restart is not None:
            wait_until(lambda: self.restart.poll() is not None, 120, "the restart's end")
            self.restart = None
        self.wait_ready()

        def rests():
            try:
                status = self.client.status(2.0)
            except TimeoutError:
                return False
            assert status["conservation"] == "ok", status["conservation"]
            ring = status["ring"]
            return status["idle"] and ring["ingest"]["used"] == ring["pixels"]["used"] == 0
        wait_until(rests, 60, "the pool is idle")
        try:
            wait_until(lambda: len(open_fds(self.daemon.process.pid)) == len(self.fds), 20,
                       "the supervisor's descriptors")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {open_fds(self.daemon.process.pid)}, "
                               f"at the start: {self.fds}") from None

    def catch(self, point, action, nth):
        """One round: the nth hit of the point ends in `action`. Returns whether it was hit."""
        first = [what for what, points in AFTER_A.items() if point.startswith(points)]
        deeds = {"caught": 0, "stopped": None}
        self.table.arm(point, nth)

        def turn():
            if first and self.is_at_work():
                self.let_happen(first.pop())
            if not deeds["caught"]:
                deeds["caught"] = self.table.caught(point)
                if not deeds["caught"]:
                    return
                pid = deeds["caught"]
                try:
                    os.kill(pid, signal.SIGKILL if action == "kill" else signal.SIGSTOP)
                except ProcessLookupError:
                    pass  # its supervisor was faster
                self.table.release(point)
                if action == "stop":
                    deeds["stopped"] = time.monotonic() + (self.stop_s or SHORT_STOP_LIMIT_S)
            elif deeds["stopped"]:
                if state_of(deeds["caught"]) in ("", "Z"):
                    deeds["stopped"] = None  # its deadline ended it
                elif time.monotonic() > deeds["stopped"]:
                    assert self.stop_s, f"{point}: stopped for {SHORT_STOP_LIMIT_S} s, lives on"
                    deeds["stopped"] = None
                    os.kill(deeds["caught"], signal.SIGCONT)

        self.run_load(turn)
        deadline = time.monotonic() + patient(60)
        while deeds["stopped"] or (self.restarts() and not deeds["caught"]
                                   and time.monotonic() < deadline):
            turn()
            self.client.poll(0.05)
        self.table.release(point)
        self.assert_whole()
        return bool(deeds["caught"])

    def catch_in_a_row(self, point, nth, times, num_tokens):
        """Whoever comes to this point of a recovery is killed there, `times` times in a row, before
        the images that were in flight have their answers. Returns how often it was."""
        deeds = {"caught": 0, "again": 0.0}
        self.table.arm(point, nth)

        def turn():
            if deeds["caught"] == times or not self.has_images_at_work():
                return
            pid = self.table.caught(point)
            if pid:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # its supervisor was faster
                self.table.release(point)
                deeds["caught"] += 1
                if deeds["caught"] < times:
                    self.table.arm(point, 1)
                # A broker that died there has a successor, which comes there by itself.
                is_broker = not point.startswith("worker.")
                deeds["again"] = time.monotonic() + patient(2.0) if is_broker else 0.0
            elif time.monotonic() > deeds["again"] and self.daemon.pids("facet-broker"):
                if deeds["again"]:  # not met after the last one
                    self.table.release(point)
                    self.table.arm(point, 1)
                deeds["again"] = time.monotonic() + patient(2.0)
                self.let_happen("broker")

        self.run_load(turn, self.long_load(num_tokens))
        self.table.release(point)
        self.assert_whole()
        return deeds["caught"]

    def catch_broker(self, request, point, deed):
        """Waits until the broker is at the point with the one request there is; then `deed`."""
        self.table.arm(point, 1)
        if request.id not in self.client.requests:
            self.client.submit(request)
        self.client.poll_until(lambda: request.finished or self.table.caught(point), 60)
        assert not request.finished, request.done
        deed(self.table.caught(point))

    def wait_for_end(self, broker):
        wait_until(lambda: broker not in self.daemon.pids("facet-broker"), 30, "its end")

    def record_that_ends_brokers(self):
        """Two own-fault deaths with it in hand quarantine it; deaths from outside never do."""
        point = "dispatch.recorded"
        innocent = Request("innocent", [self.images[0]], {"max_tokens": 20})
        for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL):
            def kill(pid, number=number):
                os.kill(pid, number)
                self.wait_for_end(pid)
                self.table.release(point)
            self.catch_broker(innocent, point, kill)
        self.client.run([innocent], timeout_s=60)
        assert innocent.done["finish_reason"] in ("stop", "length"), innocent.done
        guilty = Request("guilty", [self.images[1]], {"max_tokens": 20})
        for _ in range(2):
            def fail(pid):
                self.table.release(point, aborts=True)
                self.wait_for_end(pid)
            self.catch_broker(guilty, point, fail)
        self.client.poll_until(lambda: guilty.finished, 60)
        assert guilty.done["code"] == "quarantined", guilty.done
        assert "2 brokers" in guilty.done["message"], guilty.done
        self.assert_whole()


def shares_of(rounds, num_daemons):
    """What each daemon plays. Kills and stops have daemons of their own, where they can: only stops
    need deadlines that end soon who does not run."""
    kinds = [[r for r in rounds if r[1] == "kill"], [r for r in rounds if r[1] != "kill"]]
    kinds = [kind for kind in kinds if kind]
    if num_daemons < len(kinds):
        kinds = [rounds]
    shares = []
    left = num_daemons
    for kind in kinds:  # of two, kills are done sooner
        count = left if kind is kinds[-1] else max(1, left // 3)
        left -= count
        shares += [kind[i::count] for i in range(min(count, len(kind)))]
    return shares


def play_round(current, point, action, times):
    started = time.monotonic()
    nth = current.rng.choice([1, 1, 2, 3, 5])
    is_caught = False
    for attempt in range(1 + ATTEMPTS):
        if times == 0:
            is_caught = current.catch(point, action, nth)
        else:  # the more time it has, the longer the work lasts
            is_caught = current.catch_in_a_row(point, nth, times, 200 << attempt) == times
        if is_caught:
            break
        nth = 1
    print(f"{action:5} {point:22} hit {nth}{f', {times} in a row' if times else ''}: "
          f"{'ok' if is_caught else 'NOT MET'}, {time.monotonic() - started:.1f} s", flush=True)
    assert is_caught, f"{point} was not met"


def rounds_of(options, rng):
    """(point, action, how often in a row; 0: not where a recovery is met)"""
    points = options.points.split(",") if options.points else POINTS
    wanted = [int(word) for word in options.in_a_row.split(",") if word]
    rounds = []
    for point in points:
        for action in options.actions.split(","):
            if action == "kill" and point.startswith(AFTER_A["broker"]):
                rounds += [(point, action, n) for n in wanted or [rng.choice(IN_A_ROW)]]
            else:
                rounds.append((point, action, 0))
    return rounds


def play(options, seed, rounds, is_first):
    """Some of the rounds, one after the other, with a daemon of their own."""
    random.seed(seed)
    has_stops = any(action == "stop" for _, action, _ in rounds)
    current = Round(options.bin_dir, random.Random(seed), options.stop_s, options.deadline_s,
                    has_stops)
    try:
        # All that can happen happens, so that all points have a name.
        missing = POINTS
        for _ in range(ATTEMPTS):
            current.let_all_happen()
            met = current.table.entries()
            missing = [point for point in POINTS if point not in met]
            if not missing:
                break
        unknown = [point for point in met if point not in POINTS and point not in MAY_BE_MET]
        assert not missing and not unknown, f"never met: {missing}, not listed: {unknown}"
        for point, action, times in rounds:
            play_round(current, point, action, times)
        if is_first and not options.points:
            current.record_that_ends_brokers()
            print("a record that ends brokers is quarantined, one that was there is not",
                  flush=True)
    except BaseException:
        print(current.daemon.log_tail(150), flush=True)
        current.daemon.process.kill()
        raise
    finally:
        current.close()
    shutil.rmtree(current.daemon.folder)  # of a failure it stays, to be looked at


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin_dir")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("FACET_SEED", "0")))
    parser.add_argument("--points", default="")
    parser.add_argument("--actions", default="kill,stop")
    parser.add_argument("--stop-s", type=float, default=0.0)
    parser.add_argument("--deadline-s", type=float, default=0.0)
    parser.add_argument("--in-a-row", default="")
    parser.add_argument("--daemons", type=int, default=3)
    options = parser.parse_args()
    seed = options.seed or random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed} (FACET_SEED)", flush=True)
    pool_client.SILENCE_S = 1.5  # comes back sooner than a user's client
    rounds = rounds_of(options, random.Random(seed))
    players = []
    for number, mine in enumerate(shares_of(rounds, options.daemons)):
        players.append(multiprocessing.Process(
            target=play, args=(options, seed + number, mine, number == 0)))
        players[-1].start()
    for player in players:
        player.join()
    if any(player.exitcode != 0 for player in players):
        return 1
    print(f"{len(rounds)} rounds, nothing lost, doubled, changed or leaked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
