"""Who is killed or stopped, and when: a deck of cards shuffled by a seed, dealt by progress.

How many requests a death hits depends on the host. Where too few needed a second attempt so far,
more workers are killed than the deck says.
"""

import os
import random
import signal
import threading
import time

from pool_daemon import children_of, state_of

KILLS = [signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]
LIE_IN_WAIT_S = 0.3  # for a decoder's child, which lives for milliseconds
SHORT_STOP_S = (0.02, 0.4)  # well within every deadline of CONFIG
FOLLOW_UP = 0.3  # chance that the next blow falls while a broker's death is recovered from

# Deadlines are those of chaos_host.py: a stopped worker is ended after 3 s, a stopped broker and
# a stopped decoder child after 4 s, later on a busy host. Finished records stay for longer than
# any host keeps their client from running.
TIME_TO_LIVE = "record_ttl_s = 600"
CONFIG = {
    "worker": "echo.token_us = 30000\nmax_lanes = 24\ncredits = 40",
    "broker": TIME_TO_LIVE,
    # For all records of 20,000 requests: while brokers die one after the other, a full ledger drops
    # none of those that ended lately, and refuses.
    "ledger": 'bytes = "512MiB"\nmax_records = 32768',
    "decoder": "cpu_seconds = 1",
    "supervisor": "kill_grace_ms = 200\nrestart_backoff_ms = 50\nrestart_backoff_max_ms = 400\n",
}
WANTED_RETRIED = 0.38  # of the finished requests; less: more workers are killed
# Requests that finish, at least, between two deaths that the deck does not have: as many as the
# death hit, within these bounds.
LEAST_BETWEEN, MOST_BETWEEN = 3, 12
BIG_BYTES = 3 << 20  # pixels of an image that is worth a late writer
OTHERS_MEANWHILE = 90  # requests: more pixels than the ring holds
LATE_WRITER_S = 3.5
LEFT_STOPPED = 2.0  # deadlines of a worker: SIGCONT comes too late

# Cards of a deck of 100: what, how often.
DECK = {"kill worker": 37, "stop worker": 9, "leave worker stopped": 5,
        "kill decoder": 7, "stop decoder": 4,
        "kill child": 9, "stop child": 5, "leave child stopped": 1,
        "kill broker": 11, "stop broker": 3, "leave broker stopped": 1,
        "late steps": 5, "late writer": 3}
# What shows a broker without fences or with early reuse.
ATTACKS = {"late steps": 12, "late writer": 10, "kill worker": 2}


class Victim:
    """A live process of the pool, named by a pidfd: no signal can hit another one."""

    def __init__(self, pid, parent):
        self.pid = pid
        self.fd = os.pidfd_open(pid)
        if pid not in children_of(parent) or state_of(pid) in ("", "Z", "X"):
            self.close()
            raise ProcessLookupError(pid)

    def send(self, number):
        signal.pidfd_send_signal(self.fd, number)

    def close(self):
        os.close(self.fd)


def started_at(pid):
    """In ticks since boot; of a process that is gone: never."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return int(file.read().rsplit(")", 1)[1].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return float("inf")


def bytes_to_write(child):
    """Of the pixels that a decoder's child has mapped for writing; 0 before it has."""
    try:
        with open(f"/proc/{child}/maps", encoding="utf-8") as file:
            for line in file:
                if " rw-s " in line and "/facet-ring-" in line:
                    first, last = line.split(" ", 1)[0].split("-")
                    return int(last, 16) - int(first, 16)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def deal(cards, count, rng):
    """`count` cards or some more: the share of each is rounded up, so that none is left out."""
    deck = [what for what, often in cards.items() for _ in range(often)]
    scale = count / len(deck)
    hand = [what for what, often in cards.items() for _ in range(round(often * scale + 0.4999))]
    rng.shuffle(hand)
    return hand


class Schedule(threading.Thread):
    """Plays the hand while requests finish: card k when k of its share of them are done.
    `num_requests` 0: one card after the other."""

    def __init__(self, pool, hand, seed, num_requests, host, wanted_retried=WANTED_RETRIED):
        super().__init__(daemon=True)
        self.pool = pool
        self.hand = hand
        self.rng = random.Random(seed)
        # All is played before the last requests are under way.
        self.pace = 0.92 * num_requests / max(len(hand), 1)
        self.num_requests = num_requests
        self.host = host
        self.wanted_retried = wanted_retried
        self.num_finished = self.num_retried = 0  # set by the load
        self.held = {}  # pid of a worker: requests it holds; likewise
        self.next_extra = MOST_BETWEEN
        self.cancel_wanted = threading.Event()  # the load cancels what has no token yet
        self.stopping = threading.Event()
        self.later = []  # (when, victim): SIGCONT then
        self.kills = {}  # program -> number
        self.stops = {}
        self.played = {}
        self.error = None

    def run(self):
        try:
            for index, card in enumerate(self.hand):
                self.wait_for(index * self.pace)
                if self.stopping.is_set():
                    break
                self.play(card)
                self.rest(self.rng.uniform(0.0, 0.05))
                if card == "kill broker" and self.rng.random() < FOLLOW_UP:
                    self.rest(self.rng.uniform(0.0, 0.3))
                    self.play(self.rng.choice(["kill worker", "kill decoder", "kill broker"]))
            self.wait_for(self.num_requests)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error
        finally:
            self.continue_all()

    def wait_for(self, num_finished):
        while self.num_finished < num_finished and not self.stopping.is_set():
            if (self.num_finished >= self.next_extra
                    and self.num_retried < self.wanted_retried * self.num_finished):
                held = max(self.held.values(), default=MOST_BETWEEN)
                self.next_extra = self.num_finished + min(max(held, LEAST_BETWEEN), MOST_BETWEEN)
                self.play("kill busy worker")
            self.rest(0.005)

    def rest(self, seconds):
        """Sleeps; continues whom it is time to continue."""
        end = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            for when, victim in [entry for entry in self.later if entry[0] <= now]:
                self.later.remove((when, victim))
                self.let_go(victim)
            if now >= end:
                return
            time.sleep(min(0.005, end - now))

    def continue_all(self):
        for _, victim in self.later:
            self.let_go(victim)
        self.later = []

    def let_go(self, victim):
        try:
            victim.send(signal.SIGCONT)
        except ProcessLookupError:
            pass
        victim.close()

    def play(self, card):
        name = card.replace(" ", "_")
        try:
            done = getattr(self, name)()
        except (ProcessLookupError, IndexError, FileNotFoundError):
            done = False
        if not done:  # nobody there: a worker in its place
            card = "kill worker instead"
            try:
                self.kill_worker()
            except (ProcessLookupError, IndexError, FileNotFoundError):
                card = "nobody"
        self.played[card] = self.played.get(card, 0) + 1

    # -- whom --

    def one_of(self, program):
        pids = self.pool.pids(program)
        return Victim(self.rng.choice(pids), self.pool.process.pid)

    def worker(self):
        return self.one_of("facet-worker-echo")

    def child(self, least_bytes=0, patience_s=LIE_IN_WAIT_S):
        """A decoder's child that writes so much; lies in wait for one."""
        end = time.monotonic() + patience_s
        while time.monotonic() < end and not self.stopping.is_set():
            for server in self.pool.pids("facet-decoder"):
                for child in children_of(server):
                    if least_bytes <= bytes_to_write(child):
                        return Victim(child, server)
            self.rest(0.0005)
        raise ProcessLookupError("no decoder child")

    # -- what --

    def kill(self, program, victim, numbers=tuple(KILLS)):
        victim.send(self.rng.choice(numbers))
        victim.close()
        self.kills[program] = self.kills.get(program, 0) + 1
        return True

    def stop(self, program, victim, seconds):
        victim.send(signal.SIGSTOP)
        self.stops[program] = self.stops.get(program, 0) + 1
        self.later.append((time.monotonic() + seconds, victim))
        return True

    def kill_worker(self):
        return self.kill("worker", self.worker())

    def kill_busy_worker(self):
        """Who holds most requests; where that is not known, who lives longest and has had the time
        to be given many."""
        busiest = sorted(self.pool.workers(),
                         key=lambda pid: (-self.held.get(pid, 0), started_at(pid)))[0]
        return self.kill("worker", Victim(busiest, self.pool.process.pid))

    def stop_worker(self):
        return self.stop("worker", self.worker(), self.rng.uniform(*SHORT_STOP_S))

    def leave_worker_stopped(self):
        return self.stop("worker", self.worker(), LEFT_STOPPED * self.host.deadline_s)

    def kill_decoder(self):
        return self.kill("decoder", self.one_of("facet-decoder"))

    def stop_decoder(self):
        return self.stop("decoder", self.one_of("facet-decoder"), self.rng.uniform(*SHORT_STOP_S))

    def kill_child(self):
        # Other signals are taken for the image's doing, which is refused after two of them.
        return self.kill("child", self.child(), (signal.SIGKILL, signal.SIGTERM))

    def stop_child(self):
        return self.stop("child", self.child(), self.rng.uniform(*SHORT_STOP_S))

    def leave_child_stopped(self):
        return self.stop("child", self.child(), LEFT_STOPPED * self.host.deadline_s)

    def kill_broker(self):
        return self.kill("broker", self.one_of("facet-broker"))

    def stop_broker(self):
        return self.stop("broker", self.one_of("facet-broker"), self.rng.uniform(*SHORT_STOP_S))

    def leave_broker_stopped(self):
        return self.stop("broker", self.one_of("facet-broker"),
                         LEFT_STOPPED * self.host.deadline_s)

    def late_steps(self):
        """A worker works on while the broker is stopped, and dies: the broker then learns of its
        death first and finds its last steps afterwards."""
        broker = self.one_of("facet-broker")
        broker.send(signal.SIGSTOP)
        self.stops["broker"] = self.stops.get("broker", 0) + 1
        try:
            self.rest(self.rng.uniform(0.1, 0.3))
            pid = self.rng.choice(self.pool.workers())
            self.kill("worker", Victim(pid, self.pool.process.pid), (signal.SIGKILL,))
            end = time.monotonic() + 1.0
            while state_of(pid) != "" and time.monotonic() < end:
                self.rest(0.005)
            self.rest(0.02)  # what facetd says of it
        finally:
            self.let_go(broker)
        return True

    def late_writer(self):
        """A decoder's child is stopped and the requests that wait for pixels like its own are
        cancelled; it goes on to write when others have had the time to take its place."""
        child = self.child(least_bytes=BIG_BYTES, patience_s=1.0)
        child.send(signal.SIGSTOP)
        self.stops["child"] = self.stops.get("child", 0) + 1
        try:
            self.cancel_wanted.set()
            enough = self.num_finished + OTHERS_MEANWHILE
            end = time.monotonic() + LATE_WRITER_S
            while self.num_finished < enough and time.monotonic() < end:
                self.rest(0.005)
        finally:
            self.let_go(child)
        self.rest(0.1)
        return True
