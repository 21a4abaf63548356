"""Many requests while processes of every kind are killed and stopped.

    chaos.py BIN_DIR [--requests N] [--seed S] [--kills N] [--broker PROGRAM] [--attacks]
             [--must-fail SEEDS] [--batch]

The questions are asked once undisturbed; the answers must be those that pool_oracle.py computes.
Then they are asked again and again, under new ids, while signals hit workers, the decoder, its
children and the broker (chaos_schedule.py). Every answer must be the same, and afterwards
everything must be back at its baseline (chaos_books.py).

The last line is one JSON object:
  requests, kills, stops   asked; signals sent that end a process, and SIGSTOPs
  broker_kills             of the kills
  retried                  requests that took more than one attempt
  lost                     no end, an end by an error, or tokens that never came
  doubled                  tokens or ends that came twice
  changed                  answers that are not those of the undisturbed run or of the computation
  leaked                   descriptors, threads, processes, shared memory, slots, records; brokers
                           whose books did not balance
  innocent                 workers ended by the broker, or blamed, though none had broken a rule;
                           brokers that died by themselves
Exit code 0: the last five are 0, and kills and retried reached their minimum. With --must-fail,
which is for brokers with a broken rule: in one of SEEDS runs lost, doubled, changed or leaked was
not 0.
"""

import argparse
import ctypes
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import chaos_books
import chaos_schedule
import pool_oracle
from chaos_client import ChaosClient, run_load
from chaos_host import HostWatch, reload
from cli_harness import answers_of
from patience import patient
from pool_client import Client, Request
from pool_daemon import Daemon, wait_ready
from pool_images import big_noise_png, draw, encode, mixed_images, write_folder
from pool_oracle import DRIFT

NUM_IMAGES = 120
NUM_BIG = 6
MIN_QUESTIONS = 200  # different ones; a quarter of the requests, which repeat them, if that is more
MAX_QUESTIONS = 1000
IN_FLIGHT = 84  # less than the credits of all workers: who loses its worker finds another
STALL_S = 300.0  # nothing moved for so long, many deadlines: what is open is lost
LEAKS_S = 60.0  # until everything is back; 10 s of them records are kept for who may come back
MIN_RETRIED = 0.3
STALLED_HOST_S = 0.3  # woken up so late, we believe that others came late, too
HAND = 1.4  # cards for each kill that is wanted: not every card finds its victim
PR_SET_CHILD_SUBREAPER = 36

RING = 'ingest_bytes = "64MiB"\npixel_bytes = "40MiB"'


def make_images(seed):
    rng = random.Random(seed)
    big = [encode(draw(rng, 1500, 1000), rng) for _ in range(NUM_BIG)]
    return mixed_images(seed, NUM_IMAGES - 1) + [big_noise_png(seed)], big


def make_questions(seed, count, images, big, drift_every):
    rng = random.Random(seed)
    questions = []
    for i in range(count):
        if i % 10 == 9:
            chosen = []
        elif i % 16 == 3:
            chosen = [rng.choice(big)]
        else:
            chosen = [images[i % len(images)]] + rng.choices(images, k=rng.choice([0, 0, 1, 2]))
        prompt = f"What is in picture {i}?"
        questions.append(Request(
            DRIFT + prompt if i % drift_every == 1 else prompt, chosen,
            {"max_tokens": rng.randint(8, 40), "seed": rng.randrange(1 << 63),
             "ignore_eos": rng.random() < 0.7},
            priority=rng.choice(["batch", "interactive"])))
    return questions


def num_questions(num_requests):
    return min(num_requests, max(MIN_QUESTIONS, num_requests // 4), MAX_QUESTIONS)


def again(question):
    """The same question under a new id."""
    return Request(question.prompt, question.images, question.params, priority=question.priority)


def result(request):
    return request.tokens, request.text, request.done["finish_reason"]


class Verdict:
    """What became of the requests of a disturbed run."""

    def __init__(self):
        self.lost, self.doubled, self.changed, self.innocent = [], [], [], []

    def judge(self, name, request, expected):
        done = request.done
        if done is None:
            self.lost.append(f"{name}: no end; refused: {request.refused}")
        elif request.cancel_sent and done["finish_reason"] == "cancelled":
            if not request.prompt.startswith(DRIFT):
                if request.tokens != expected[0][:len(request.tokens)]:
                    self.changed.append(f"{name}: not the beginning: {request.tokens}")
        elif done["finish_reason"] == "error":
            self.lost.append(f"{name}: {done['code']}: {done['message']}")
        elif request.prompt.startswith(DRIFT):
            if why := pool_oracle.why_not_by_attempts(request):
                self.changed.append(f"{name}: {why}")
        elif result(request) != expected:
            self.changed.append(f"{name}: {result(request)} {expected}")

    def judge_broker(self, statuses, schedule, num_hung):
        """`statuses`: the last of each epoch. `num_hung`: brokers ended as hung, on a busy host."""
        for epoch, status in sorted(statuses.items()):
            if number := status["counters"]["protocol_kills"]:
                self.innocent.append(f"broker {epoch} ended {number} workers")
        most = 1 + schedule.kills.get("broker", 0) + schedule.stops.get("broker", 0) + num_hung
        if max(statuses, default=1) > most:
            self.innocent.append(f"{max(statuses)} brokers, {most} at most by the schedule")


    def judge_log(self, log, num_hung):
        """No worker that had begun to serve is to be blamed for a signal of ours. One that has not
        cannot know yet whose signal it was, and holds no request to blame. `num_hung`: workers
        ended as hung, on a busy host."""
        serving, blamed = set(), []
        for line in log:
            if found := re.search(r"worker_hello .*incarnation=(\d+)", line):
                serving.add(found[1])
            found = re.search(r"worker_dead .*incarnation=(\d+) own_fault=1", line)
            if found and found[1] in serving:
                blamed.append(line.strip())
        if len(blamed) > num_hung:
            self.innocent += blamed


class Run:
    """One daemon from its start to its end."""

    def __init__(self, options, seed):
        self.options = options
        self.seed = seed
        self.verdict = Verdict()
        self.leaked = {}
        self.host = HostWatch()

    def say(self, text):
        print(text, flush=True)

    def run(self):
        """Returns the figures."""
        options = self.options
        images, big = make_images(self.seed)
        self.big = set(big)
        questions = make_questions(self.seed, num_questions(options.requests),
                                   images, big, drift_every=2 if options.attacks else 7)
        bin_dir = with_broker(options.bin_dir, options.broker)
        config = dict(chaos_schedule.CONFIG, ring=RING)
        config["supervisor"] += self.host.supervisor_lines()
        try:
            with Daemon(bin_dir, **config) as pool:
                self.host.follow(pool)
                self.ask_quietly(pool, questions)
                figures = self.disturb(pool, questions)
                if options.batch:
                    self.batch(pool, images)
                self.host.stop()
                self.count_leaks(pool)
                if (code := pool.stop()) != 0:
                    self.leaked["exit code of facetd"] = (0, code)
                log = read_log(pool)
                self.verdict.judge_log(log, self.num_hung(log, "worker"))
                figures["innocent"] = len(self.verdict.innocent)
                figures |= {"changed": len(self.verdict.changed), "leaked": len(self.leaked)}
        finally:
            self.host.stopping.set()
            if bin_dir != options.bin_dir:
                shutil.rmtree(bin_dir)
        return figures

    def ask_quietly(self, pool, questions):
        client = Client(pool.socket_path)
        wait_ready(client, pool.num_workers, 30)
        started = time.monotonic()
        client.run(questions, in_flight=IN_FLIGHT, timeout_s=60 + len(questions))
        seconds = time.monotonic() - started
        self.expected = [pool_oracle.answer(q) for q in questions]
        for index, question in enumerate(questions):
            if question.done is None:
                raise AssertionError(f"undisturbed question {index}: {question.refused}")
            if question.prompt.startswith(DRIFT):
                why = pool_oracle.why_not_by_attempts(question)
            else:
                why = "" if result(question) == self.expected[index] else "not as computed"
            if why or question.done["attempts"] != 1:
                raise AssertionError(f"undisturbed question {index}: {why} {question.done}")
        client.close()
        self.say(f"undisturbed: {len(questions)} requests in {seconds:.1f} s, all as computed")
        self.path = pool.socket_path
        self.watcher = Client(self.path)
        self.before = chaos_books.take_least(pool, self.watcher)

    def disturb(self, pool, questions):
        options = self.options
        requests = [again(questions[i % len(questions)]) for i in range(options.requests)]
        for request in requests:
            request.cancel_sent = False
            request.is_big = request.images[:1] and request.images[0] in self.big
        cards = chaos_schedule.ATTACKS if options.attacks else chaos_schedule.DECK
        hand = chaos_schedule.deal(cards, round(HAND * options.kills), random.Random(self.seed))
        schedule = chaos_schedule.Schedule(pool, hand, self.seed, len(requests), self.host,
                                           0.0 if options.attacks else
                                           chaos_schedule.WANTED_RETRIED)
        clients = [ChaosClient(pool.socket_path, watches) for watches in (True, True, False)]

        def on_turn(num_finished):
            schedule.num_retried = sum(client.num_retried for client in clients)
            schedule.held = held_by(clients[0].statuses)
            schedule.num_finished = num_finished
            if schedule.cancel_wanted.is_set():
                schedule.cancel_wanted.clear()
                cancel_what_waits(clients)

        started = time.monotonic()
        schedule.start()
        try:
            run_load(clients, requests, IN_FLIGHT, on_turn, STALL_S)
        finally:
            schedule.stopping.set()
            schedule.join()
        seconds = time.monotonic() - started
        if any(client.open for client in clients):
            self.print_state(pool, clients)
        if schedule.error is not None:
            raise schedule.error
        return self.sum_up(pool, clients, schedule, requests, questions, seconds)

    def print_state(self, pool, clients):
        """Of a run in which nothing moves any more."""
        for client in clients:
            print(client.why_open(), flush=True)
        print(json.dumps(list(clients[0].statuses.values())[-1:], indent=1), flush=True)
        print(pool.log_tail(200), flush=True)

    def sum_up(self, pool, clients, schedule, requests, questions, seconds):
        verdict = self.verdict
        for index, request in enumerate(requests):
            verdict.judge(f"request {index}", request, self.expected[index % len(questions)])
        for client in clients:
            for kind, text in client.violations:
                getattr(verdict, kind).append(text)
            client.close()
        statuses = clients[0].statuses
        last = self.watcher_status()
        statuses[last["epoch"]] = last
        for epoch, status in statuses.items():
            if status["conservation"] != "ok":
                self.leaked[f"conservation of broker {epoch}"] = ("ok", status["conservation"])
        verdict.judge_broker(statuses, schedule, self.num_hung(read_log(pool), "broker"))
        retried = sum(r.done is not None and r.done["attempts"] > 1 for r in requests)
        most = max((r.done["attempts"] for r in requests if r.done), default=0)
        self.say(f"disturbed: {seconds:.1f} s; played {schedule.played}; killed {schedule.kills}; "
                 f"stopped {schedule.stops}; most attempts {most}; cancelled "
                 f"{sum(r.cancel_sent for r in requests)}; reconnected "
                 f"{[c.num_reconnects for c in clients]}; epoch {last['epoch']}")
        return {"requests": len(requests), "kills": sum(schedule.kills.values()),
                "stops": sum(schedule.stops.values()),
                "broker_kills": schedule.kills.get("broker", 0), "retried": retried,
                "lost": len(verdict.lost), "doubled": len(verdict.doubled),
                "changed": 0, "leaked": 0,
                "innocent": 0, "seconds": round(seconds, 1),
                "seed": self.seed}

    def num_hung(self, log, program):
        """How many missed a deadline without a signal of ours, where that is the host's doing."""
        if self.host.longest_stall_s < STALLED_HOST_S:
            return 0
        hung = [line for line in log if f" facetd {program}" in line and " hangs: " in line]
        self.say(f"the host stalled for {self.host.longest_stall_s:.2f} s: {program}s ended as "
                 f"hung: {len(hung)}")
        return len(hung)

    def watcher_status(self):
        self.watcher.close()  # it does not follow a new broker
        self.watcher = Client(self.path)
        return self.watcher.status(timeout_s=60)

    def count_leaks(self, pool):
        """Finished requests keep their records, and nothing else; then not even these, which a
        new broker finds and must let go."""
        self.leaked |= chaos_books.leaks(pool, self.watcher, self.before, LEAKS_S,
                                         but=chaos_books.OF_FINISHED)
        if not reload(pool, chaos_schedule.TIME_TO_LIVE, "record_ttl_s = 0"):
            raise AssertionError("the records' time to live cannot be changed")
        os.kill(pool.broker(), signal.SIGKILL)
        self.watcher_status()
        self.leaked |= chaos_books.leaks(pool, self.watcher, self.before, LEAKS_S)

    def batch(self, pool, images):
        """`facet batch` over a folder, undisturbed and disturbed: the same lines."""
        with tempfile.TemporaryDirectory(prefix="facet-batch-") as folder:
            pictures = os.path.join(folder, "pictures")
            os.mkdir(pictures)
            write_folder(pictures, images)
            quiet = run_batch(pool, pictures, os.path.join(folder, "quiet.jsonl"))
            hand = chaos_schedule.deal({"kill worker": 8, "kill decoder": 1, "kill child": 2,
                                        "kill broker": 1}, 12, random.Random(self.seed))
            schedule = chaos_schedule.Schedule(pool, hand, self.seed, 0, self.host)
            schedule.start()
            disturbed = run_batch(pool, pictures, os.path.join(folder, "disturbed.jsonl"))
            schedule.stopping.set()
            schedule.join()
        for name in quiet.keys() | disturbed.keys():
            if quiet.get(name) != disturbed.get(name):
                self.verdict.changed.append(f"facet batch, {name}: {disturbed.get(name)}")
        self.say(f"facet batch: {len(quiet)} lines, killed {schedule.kills}")


def read_log(pool):
    with open(os.path.join(pool.folder, "facet.log"), encoding="utf-8") as log:
        return log.readlines()


def held_by(statuses):
    """{pid of a worker: requests it holds}, as the broker said last."""
    return {worker["pid"]: worker["outstanding"]
            for worker in statuses[max(statuses)]["workers"]} if statuses else {}


def cancel_what_waits(clients):
    for client in clients:
        for request in client.open.values():
            if request.accepted and not request.tokens and request.is_big:
                request.cancel_sent = True
                client.cancel(request)


def run_batch(pool, folder, out):
    command = [os.path.join(pool.bin_dir, "facet"), "batch", folder, "-p", "Describe it.",
               "-o", out, "--socket", pool.socket_path, "--max-tokens", "24"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=patient(120), check=False)
    if done.returncode != 0:
        raise AssertionError(f"facet batch: exit {done.returncode}\n{done.stderr[-2000:]}")
    return answers_of(out)


def with_broker(bin_dir, broker):
    """`bin_dir`, or a copy of it with another facet-broker: facetd starts its neighbours."""
    if broker is None:
        return bin_dir
    folder = tempfile.mkdtemp(prefix="facet-bin-")
    for name in ("facetd", "facet-decoder", "facet-worker-echo", "facet"):
        shutil.copy2(os.path.join(bin_dir, name), folder)
    shutil.copy2(broker, os.path.join(folder, "facet-broker"))
    return folder


def failures_of(figures):
    return [f"{name} is {figures[name]}"
            for name in ("lost", "doubled", "changed", "leaked", "innocent") if figures[name]]


def shortfalls_of(figures, options):
    if options.attacks:  # their number depends on the luck of the lurker
        return []
    found = []
    if figures["kills"] + figures["stops"] < options.kills:
        found.append(f"only {figures['kills'] + figures['stops']} kills and stops")
    if figures["broker_kills"] < options.kills // 10:
        found.append(f"only {figures['broker_kills']} kills of the broker")
    if figures["retried"] < MIN_RETRIED * figures["requests"]:
        found.append(f"only {figures['retried']} requests with a second attempt")
    return found


def print_examples(run):
    for kind in ("lost", "doubled", "changed", "innocent"):
        for text in getattr(run.verdict, kind)[:5]:
            print(f"{kind}: {text[:1500]}", flush=True)
    for what, (before, after) in run.leaked.items():
        print(f"leaked: {what}: {before} before, {after} after", flush=True)


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin_dir")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--kills", type=int, help="at least so many kills and stops; "
                        "a fifteenth of the requests, at least 100, if left out")
    parser.add_argument("--broker", help="another facet-broker")
    parser.add_argument("--attacks", action="store_true",
                        help="only what a broker with a broken rule does not stand")
    parser.add_argument("--must-fail", type=int, metavar="SEEDS")
    parser.add_argument("--batch", action="store_true", help="facet batch as well")
    options = parser.parse_args()
    if options.kills is None:
        options.kills = max(100, options.requests // 15)
    return options


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the daemon ends with us
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for seed in range(options.seed, options.seed + (options.must_fail or 1)):
        print(f"seed {seed} (--seed)", flush=True)
        run = Run(options, seed)
        figures = run.run()
        print_examples(run)
        failures, shortfalls = failures_of(figures), shortfalls_of(figures, options)
        print("; ".join(failures + shortfalls) or "nothing lost, doubled, changed or leaked",
              flush=True)
        print(json.dumps(figures), flush=True)
        if options.must_fail is None:
            return 1 if failures or shortfalls else 0
        if any(figures[name] for name in ("lost", "doubled", "changed", "leaked")):
            return 0
    print(f"{options.must_fail} seeds found nothing wrong with {options.broker}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
