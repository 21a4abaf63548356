"""Real shortages: ring, ledger, /dev/shm, disk and descriptors; readers that stall; a wall
clock that jumps.

    pool_exhaustion.py BIN_DIR CLOCK_SHIM [unittest arguments]

CLOCK_SHIM: the library of clock_shim.c.
"""

import errno
import json
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time

import msgpack
import zmq

from patience import patient, patient_ms
from pool_case import SEED, PoolTest, jpeg, run_tests
from pool_client import Request, generate_message
from pool_daemon import count_fds, wait_until
from pool_images import big_noise_png, mixed_images, write_folder

NUM_STALLED = 3
# Mounts of its own; root of its own where we are not root.
UNSHARE = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]


def with_tmpfs(path, size):
    """A command's prefix: `path` is a new tmpfs of that size for it alone."""
    script = f'mount -t tmpfs -o size={size} tmpfs "{path}" && exec "$@"'
    return [*UNSHARE, "sh", "-c", script, "sh"]


class Memory(PoolTest):
    def run_all(self, client, requests, in_flight):
        client.run(requests, in_flight=in_flight, timeout_s=90)
        for request in requests:
            self.assert_answer(request)
        return client.status()["counters"]["refused"].get("exhausted", 0)

    def test_full_ring(self):
        """Both arenas a few images large: refused with a hint, or waiting for its turn."""
        _, client = self.pool(worker="echo.token_us = 2000",
                              ring='ingest_bytes = "8MiB"\npixel_bytes = "8MiB"')
        image = big_noise_png(SEED)  # a fifth of either arena
        requests = [Request(f"{i}", [image], {"max_tokens": 20}) for i in range(40)]
        refusals = self.run_all(client, requests, in_flight=40)
        self.assertGreater(refusals, 0)
        messages = {r.num_refusals for r in requests}
        self.assertGreater(max(messages), 0)
        self.assert_rests(client)

    def test_full_ledger(self):
        """A finished record stays to be asked for again, but not at the cost of new requests."""
        _, client = self.pool(worker="echo.token_us = 1000", broker="record_ttl_s = 60",
                              ledger='bytes = "1MiB"\nmax_records = 24')
        requests = [Request(f"{i}", [], {"max_tokens": 400, "ignore_eos": True})
                    for i in range(40)]  # a second wave, when the records of the first may go
        refusals = self.run_all(client, requests, in_flight=40)
        self.assertGreater(refusals, 0)
        self.assertEqual(client.status()["ledger"]["max_records"], 24)
        self.assert_rests(client)

    def test_a_request_that_never_fits_is_refused_with_the_numbers(self):
        _, client = self.pool(workers=1, ledger='bytes = "1MiB"\nmax_records = 24')
        request = Request("x" * 700_000, [], {"max_tokens": 16384, "ignore_eos": True})
        client.run([request])
        self.assertIsNone(request.done)
        self.assertEqual(request.refused["retry_after_ms"], 0, request.refused)
        self.assertRegex(request.refused["message"], r"\d")
        self.assert_rests(client)

    def test_dev_shm_of_one_mebibyte(self):
        """Ring and ledger do not fit there: memory that needs no file system is taken."""
        daemon, client = self.pool(through=with_tmpfs("/dev/shm", "1m"), workers=2)
        images = mixed_images(SEED, 20)
        requests = [Request(f"{i}", [images[i % 20]], {"max_tokens": 20}) for i in range(60)]
        self.run_all(client, requests, in_flight=30)
        its_root = os.path.join("/proc", str(daemon.process.pid), "root")
        self.assertEqual(os.listdir(os.path.join(its_root, "dev", "shm")), [])
        self.assert_rests(client)


class Disk(PoolTest):
    def test_disk_full_during_a_batch(self):
        """The batch says so and stops; with room it goes on where it was, and nothing is torn."""
        daemon, _ = self.pool(workers=2, worker="echo.token_us = 1000")
        with tempfile.TemporaryDirectory(prefix="facet-disk-") as folder:
            pictures, disk = os.path.join(folder, "pictures"), os.path.join(folder, "disk")
            os.mkdir(pictures)
            os.mkdir(disk)
            write_folder(pictures, mixed_images(SEED, 60, max_side=60))
            batch = [os.path.join(daemon.bin_dir, "facet"), "batch", pictures, "-p", "Describe it.",
                     "--max-tokens", "40", "--socket", daemon.socket_path, "-o"]
            result = os.path.join(disk, "out.jsonl")
            script = ('"$@"; echo "first $?"; cp "$out" "$keep" && '
                      'mount -o remount,size=8m "$disk" && "$@"; echo "second $?"; '
                      'cp "$out" "$keep.2"')
            keep = os.path.join(folder, "keep")
            done = subprocess.run(
                [*with_tmpfs(disk, "16k"), "sh", "-c", script, "sh", *batch, result],
                env=dict(os.environ, out=result, keep=keep, disk=disk), stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=patient(90), check=False)
            said = done.stdout + done.stderr
            self.assertIn("first 1", done.stdout, said)
            self.assertIn("second 0", done.stdout, said)
            self.assertRegex(done.stderr, r"out\.jsonl: .*(No space left|full)", said)
            self.assertLess(len(lines_of(keep)), 60)
            self.assertGreater(len(lines_of(keep)), 0)
            after = lines_of(keep + ".2")
            self.assertEqual(len({entry["image"] for entry in after}), 60)
            self.assertEqual(len(after), 60)


def lines_of(path):
    """Every whole line is JSON; a last one without its end does not count."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


class Descriptors(PoolTest):
    def test_too_few_are_refused_with_the_numbers(self):
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
            config.write('[worker]\nengine = "echo"\n[broker]\nmax_clients = 20\n'
                         f'runtime_dir = "{config.name}.run"\n')
            config.flush()
            done = subprocess.run(
                ["prlimit", "--nofile=80:80", os.path.join(self.bin_dir, "facetd"), "--config",
                 config.name], capture_output=True, text=True, timeout=patient(20), check=False)
            self.assertEqual(done.returncode, 72, done.stderr)
            self.assertIn("at most 80 open files are allowed, 468 are needed", done.stderr)
            self.assertFalse(os.path.exists(config.name + ".run"))

    def test_connection_flood_at_the_fewest_descriptors(self):
        """At each listener there is: connections beyond what there are descriptors for are cut; who
        is at work goes on, and the listener serves again afterwards."""
        daemon, client = self.pool(through=["prlimit", "--nofile=468:468"], workers=2,
                                   worker="echo.token_us = 10000", broker="max_clients = 20")
        folder = os.path.dirname(daemon.socket_path)
        listeners = [entry.path for entry in os.scandir(folder)
                     if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)]
        self.assertIn(daemon.socket_path, listeners)
        before = count_fds(daemon.process.pid)
        for path in sorted(listeners):
            with self.subTest(listener=os.path.basename(path)):
                self.flood(path, client)
                wait_until(lambda: count_fds(daemon.process.pid) <= before, 20,
                           "descriptors are back")
                self.assertEqual(self.outcome(self.facet(daemon, "reload"))[0], 0)
        self.wait_ready(client, 2)
        self.assert_rests(client)
        print(f"{len(listeners)} listeners, epoch {client.status()['epoch']}, resubmits "
              f"{client.num_resubmits}", flush=True)

    def flood(self, path, client):
        requests = [client.submit(Request(f"{path} {i}", [jpeg()], {"max_tokens": 60,
                                                                    "ignore_eos": True}))
                    for i in range(10)]
        client.poll_until(lambda: all(r.tokens for r in requests), 20)
        flood = []
        for _ in range(800):
            flood.append(connect_to(path))
            client.poll(0)
        client.poll_until(lambda: all(r.finished for r in requests), 60)
        for request in requests:
            self.assert_answer(request)
        for one in flood:
            one.close()
        later = Request(f"{path} later", [jpeg()], {"max_tokens": 5, "ignore_eos": True})
        client.run([later], timeout_s=30)
        self.assert_answer(later)


def connect_to(path):
    """A connection that has said nonsense, as far as there is room for it."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        one = socket.socket(socket.AF_UNIX, kind)
        one.setblocking(False)
        try:
            one.connect(path)
            one.send(b"\xff" + bytes(8) + b"\x7f")
        except OSError as error:
            if error.errno == errno.EPROTOTYPE:
                one.close()
                continue
        return one
    raise AssertionError(f"{path}: neither a stream nor packets")


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        words = file.read().split()
    return (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE")  # without shared pages


class Readers(PoolTest):
    def test_stalled_readers(self):
        """Clients that read nothing, and ones that stop reading, hold up nobody and cost no memory
        beyond their sockets' bounds; who comes back finds the answer, and all is as before."""
        # Under AddressSanitizer what is freed stays resident until as much again is.
        options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"
        daemon, client = self.pool(workers=2, worker="echo.token_us = 0",
                                   env={"ASAN_OPTIONS": options})
        client.run([Request("before", [], {"max_tokens": 5})])
        broker = daemon.broker()
        fds, memory = count_fds(broker), resident_bytes(broker)
        stalled, asked = [], []
        for number in range(NUM_STALLED):
            deaf = zmq.Context.instance().socket(zmq.DEALER)
            deaf.setsockopt(zmq.LINGER, 0)
            deaf.setsockopt(zmq.RCVHWM, 1)
            deaf.setsockopt(zmq.RCVBUF, 4096)
            deaf.connect("ipc://" + daemon.socket_path)
            stalled.append(deaf)
            asked.append(Request(f"stalled {number}", [],
                                 {"max_tokens": 10000, "ignore_eos": True}))
            deaf.send(msgpack.packb(generate_message(asked[-1])))
            if number % 2:  # reads a little, then no more
                self.assertTrue(deaf.poll(20_000))
                deaf.recv()
        requests = [Request(f"{i}", [jpeg()], {"max_tokens": 50}) for i in range(30)]
        client.run(requests)
        for request in requests:
            self.assert_answer(request)
        wait_until(lambda: client.status()["requests"]["running"] == 0, 100, "all are answered")
        status = client.status()
        self.assertGreater(status["counters"]["client_blocked"], 0)
        self.assertEqual(status["clients"]["connections"], NUM_STALLED + 1)
        grown = resident_bytes(broker) - memory
        self.assertLess(grown, 64 << 20)
        for deaf in stalled:
            deaf.close()
        for request in asked[:2]:
            client.attach(request, 0)
        client.poll_until(lambda: all(r.finished for r in asked[:2]), 30)
        for request in asked[:2]:
            self.assert_answer(request)
        wait_until(lambda: count_fds(broker) <= fds, 20, "the broker's descriptors are back")
        self.assertEqual(daemon.broker(), broker)
        self.assert_rests(client)
        print(f"{grown >> 10} KiB more for {NUM_STALLED} stalled readers", flush=True)


class Clock(PoolTest):
    shim = None

    def batch(self, daemon, folder, env):
        return self.start_facet("batch", os.path.join(folder, "pictures"), "-p", "Describe it.",
                                "--max-tokens", "60", "--socket", daemon.socket_path, "-o",
                                os.path.join(folder, "out.jsonl"), env=dict(os.environ, **env))

    def test_wall_clock_that_jumps_an_hour_to_and_fro(self):
        """Deadlines, keepalives, progress, back-off, what is kept for a while and the client
        library go by clocks that nobody sets; so does a batch that is killed and goes on."""
        folder = tempfile.mkdtemp(prefix="facet-clock-")
        self.addCleanup(shutil.rmtree, folder)
        offset = os.path.join(folder, "offset")
        with open(offset, "wb") as file:
            file.write(bytes(8))
        env = {"LD_PRELOAD": self.shim, "FACET_CLOCK_OFFSET": offset}
        daemon, client = self.pool(
            env=env, workers=2,
            worker="echo.token_us = 10000", broker="request_deadline_s = 60\nrecord_ttl_s = 600",
            supervisor=f"step_deadline_ms = {patient_ms(5000)}")
        rng = random.Random(SEED)
        jumps = []
        images = mixed_images(SEED, 20)
        os.mkdir(os.path.join(folder, "pictures"))
        write_folder(os.path.join(folder, "pictures"), images)
        batches = [self.batch(daemon, folder, env)]
        # Its images come some jumps before its question.
        late = Request("late", images[:2], {"max_tokens": 5})
        client.put_images(late)

        def jump():
            if len(jumps) == 4 and late.id not in client.requests:
                client.attach(late, 0)
            if len(jumps) > 8 and len(batches) == 1:
                batches[0].kill()
                batches[0].wait()
                batches.append(self.batch(daemon, folder, env))
            if not jumps or time.monotonic() > jumps[-1] + 0.1:
                jumps.append(time.monotonic())
                with open(offset, "r+b") as file:
                    file.write(rng.choice([-3600, 0, 3600, 86400 * 400]).to_bytes(
                        8, sys.byteorder, signed=True))
        requests = [Request(f"{i}", [images[i % 20]], {"max_tokens": 60, "ignore_eos": True})
                    for i in range(150)]
        client.run(requests, in_flight=30, on_turn=jump)
        client.poll_until(lambda: late.finished, 20)
        self.assert_answer(late)
        while batches[1].poll() is None:
            client.poll(0.02)
            jump()
        self.assertEqual(batches[1].returncode, 0, batches[1].stdout.read())
        rows = lines_of(os.path.join(folder, "out.jsonl"))
        self.assertEqual(len({row["image"] for row in rows}), 20)
        self.assertEqual((len(rows), [row for row in rows if row.get("error")]), (20, []))
        again = Request(requests[0].prompt, requests[0].images, requests[0].params,
                        id=requests[0].id)  # finished long ago, by the wall clock
        client.attach(again, 0)
        client.poll_until(lambda: again.finished, 20)
        self.assert_answer(again)
        for request in requests:
            self.assert_answer(request)
            self.assertEqual(request.done["attempts"], 1)
            self.assertLess(request.done["timings"]["total_ms"], 60_000)
        status = client.status()
        self.assertEqual(sum(w["deaths"] for w in status["workers"]), 0)
        self.assertEqual((status["epoch"], client.num_resubmits), (1, 0))
        self.assertEqual(status["counters"]["decode_retries"], 0)
        self.assertGreater(len(jumps), 10)
        os.kill(daemon.workers()[0], 9)  # a line in the log, to see that the shim is at work
        self.wait_ready(client, 2)
        with open(os.path.join(daemon.folder, "facet.log"), encoding="utf-8") as file:
            years = {line[:4] for line in file if line[:2] == "20"}
        self.assert_rests(client)
        print(f"{len(jumps)} jumps, years in the log: {sorted(years)}", flush=True)

    def test_the_shim_reaches_every_process(self):
        folder = tempfile.mkdtemp(prefix="facet-clock-")
        self.addCleanup(shutil.rmtree, folder)
        offset = os.path.join(folder, "offset")
        with open(offset, "wb") as file:
            file.write((86400 * 800).to_bytes(8, sys.byteorder, signed=True))
        daemon, client = self.pool(env={"LD_PRELOAD": self.shim, "FACET_CLOCK_OFFSET": offset},
                                   workers=1)
        client.run([Request("x", [jpeg()], {"max_tokens": 3})])
        with open(os.path.join(daemon.folder, "facet.log"), encoding="utf-8") as file:
            lines = [line for line in file if line[:2] == "20"]
        soonest = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86400 * 799))
        for program in ("facetd", "facet-broker", "facet-worker"):
            of_it = [line for line in lines if f" {program}" in line]
            self.assertGreater(len(of_it), 0)
            for line in of_it:
                self.assertGreaterEqual(line[:10], soonest)


if __name__ == "__main__":
    Clock.shim = os.path.abspath(sys.argv.pop(2))
    run_tests()
