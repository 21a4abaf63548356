"""Restarting and draining a daemon that serves: workers one after the other, under load and kills.

    operations_restart.py BIN_DIR [unittest arguments]
"""

import json
import os
import random
import re
import signal
import time

from patience import patient
from pool_case import PoolTest, SEED, jpeg, run_tests
from pool_client import Client, Request
from pool_daemon import everything_is_gone, wait_until

NOBODY = 65534
LONG = {"max_tokens": 150, "ignore_eos": True}


class Operated(PoolTest):
    def load(self, client, stop, on_turn=lambda: None, width=12):
        """Keeps `width` requests under way until stop(); returns them all, finished."""
        done, running, count = [], [], 0
        deadline = time.monotonic() + patient(90)
        while running or not stop():
            while len(running) < width and not stop():
                images = [jpeg()] if count % 3 == 0 else []
                running.append(client.submit(Request(f"{count}", images, dict(LONG))))
                count += 1
            client.poll(0.02)
            done += [r for r in running if r.finished]
            running = [r for r in running if not r.finished]
            on_turn()
            self.assertLess(time.monotonic(), deadline, f"{len(running)} still run")
        return done

    def family(self, daemon):
        return {*daemon.workers(), daemon.broker(), *daemon.pids("facet-decoder")}


class Restarts(Operated):
    def restart_under_load(self, daemon, client, on_turn=lambda: None, arguments=("--rolling",)):
        restart = self.facet(daemon, "restart", *arguments)
        requests = self.load(client, lambda: restart.poll() is not None, on_turn)
        output = restart.stdout.read()
        for request in requests:
            self.assertIsNone(request.refused, request.refused)
            self.assert_answer(request)
        return restart.returncode, output, requests

    @staticmethod
    def sent_again(daemon):
        with open(os.path.join(daemon.folder, "facet.log"), encoding="utf-8") as file:
            return sum(map(int, re.findall(r"sequences; (\d+) are sent again", file.read())))

    def check_rolling(self, workers):
        daemon, client = self.pool(watches=True, workers=workers, worker="echo.token_us = 2000")
        watcher = Client(daemon.socket_path)
        self.addCleanup(watcher.close)
        before = self.family(daemon)
        serving, epochs, asked = [], set(), [0.0]

        def watch():
            watcher.poll(0)
            if watcher.status_json is not None:
                status = json.loads(watcher.status_json)
                count = [w["state"] for w in status["workers"]].count("ready")
                # A new broker counts the workers anew, as they say hello.
                if count >= workers - 1 or status["epoch"] in epochs:
                    epochs.add(status["epoch"])
                    serving.append(count)
                watcher.status_json = None
            if time.monotonic() - asked[0] > 0.05:
                asked[0] = time.monotonic()
                watcher.ask_for_status()
        code, output, requests = self.restart_under_load(daemon, client, watch)
        self.assertEqual(code, 0, output)
        for index in range(workers):
            self.assertIn(f"worker {index} is ready again", output)
        self.assertEqual(before & self.family(daemon), set(), "every process is new")
        # Nothing was run twice; what the old broker told a worker that had not read it yet, the new
        # one tells it again.
        again = sum(r.done["attempts"] - 1 for r in requests)
        self.assertLessEqual(again, self.sent_again(daemon))
        if workers > 1:
            dips = sum(count < workers - 1 for count in serving)
            self.assertLessEqual(dips, 2 + len(serving) // 20, serving)
        status = self.assert_rests(client)
        self.assertEqual(sum(w["deaths"] for w in status["workers"]), 0)
        print(f"  {workers} workers: {len(requests)} answers meanwhile, {len(serving)} looks")

    def test_rolling_restart_of_two_and_three_workers_under_load(self):
        for workers in (2, 3):
            with self.subTest(workers=workers):
                self.check_rolling(workers)

    def test_with_one_worker_requests_wait_and_none_fails(self):
        self.check_rolling(1)

    def test_kills_in_the_midst_of_a_rolling_restart(self):
        daemon, client = self.pool(watches=True, workers=3, worker="echo.token_us = 2000",
                                   supervisor="restart_backoff_ms = 20\n"
                                              "restart_backoff_max_ms = 100")
        dice = random.Random(SEED)
        due = [time.monotonic() + 0.2]
        killed = []

        def kill_some():
            if len(killed) >= 12 or time.monotonic() < due[0]:
                return
            due[0] = time.monotonic() + dice.uniform(0.05, 0.4)
            victims = self.family(daemon) if len(killed) % 4 == 3 else set(daemon.workers())
            if victims:
                killed.append(dice.choice(sorted(victims)))
                os.kill(killed[-1], signal.SIGKILL)
        before = set(daemon.workers())
        code, output, requests = self.restart_under_load(daemon, client, kill_some)
        self.assertEqual(code, 0, output)
        self.assertEqual(before & set(daemon.workers()), set())
        print(f"  {len(killed)} kills, {len(requests)} answers, "
              f"{sum(r.done['attempts'] > 1 for r in requests)} at a later attempt")
        self.wait_ready(client, 3)
        self.assert_rests(client)

    def test_broker_killed_while_a_worker_drains(self):
        daemon, client = self.pool(watches=True, workers=2, worker="echo.token_us = 5000")
        requests = [client.submit(Request(f"{i}", [], {"max_tokens": 400, "ignore_eos": True}))
                    for i in range(6)]
        client.poll_until(lambda: all(r.tokens for r in requests), 20)
        restart = self.facet(daemon, "restart", "--rolling")
        client.poll_until(lambda: "draining" in
                          [w["state"] for w in client.status()["workers"]], 10)
        os.kill(daemon.broker(), signal.SIGKILL)
        client.poll_until(lambda: all(r.finished for r in requests), 60)
        for request in requests:
            self.assert_answer(request)
        self.assertEqual(restart.wait(patient(60)), 0)
        self.wait_ready(client, 2)
        self.assert_rests(client)

    def test_deadline_hands_the_rest_to_the_others(self):
        daemon, client = self.pool(watches=True, workers=2, worker="echo.token_us = 10000")
        requests = [client.submit(Request(f"{i}", [], {"max_tokens": 300, "ignore_eos": True}))
                    for i in range(4)]
        client.poll_until(lambda: all(r.tokens for r in requests), 20)
        restart = self.facet(daemon, "restart", "--worker", "0", "--deadline", "100ms")
        client.poll_until(lambda: restart.poll() is not None, 30)
        self.assertEqual(restart.returncode, 0)
        self.assertIn("what it holds goes on elsewhere", restart.stdout.read())
        client.poll_until(lambda: all(r.finished for r in requests), 60)
        for request in requests:
            self.assert_answer(request)
        self.assertGreater(sum(r.done["attempts"] > 1 for r in requests), 0)
        self.assert_rests(client)

    def test_who_may_and_what_is_wrong_use(self):
        daemon, _ = self.pool(watches=True, workers=1)
        for arguments, code, said in ((["restart"], 2, "--rolling, or --worker"),
                                      (["restart", "--worker", "7"], 2, "no worker 7"),
                                      (["restart", "--rolling", "--deadline", "1y"], 2, "1y"),
                                      (["drain", "--cancel"], 1, "not draining")):
            process = self.facet(daemon, *arguments)
            self.assertEqual(process.wait(patient(20)), code, arguments)
            self.assertIn(said, process.stdout.read())
        process = self.facet(daemon, "drain", "--socket", "/nowhere/facet.sock")
        self.assertEqual(process.wait(patient(20)), 2)  # with --config
        if os.geteuid() != 0:
            return
        # The socket itself is 0600; made open, the kernel's word about the user still counts.
        for path, mode in ((daemon.folder, 0o755), (f"{daemon.folder}/run", 0o755),
                           (daemon.config, 0o644)):
            os.chmod(path, mode)
        for mode in (0o600, 0o666):
            os.chmod(f"{daemon.folder}/run/control.sock", mode)
            process = self.facet(daemon, "drain", user=NOBODY)
            self.assertEqual(process.wait(patient(20)), 4, mode)
            self.assertIn("root and the daemon's user", process.stdout.read())


class Drains(Operated):
    def drain_under_load(self, daemon, client, begin):
        requests = [client.submit(Request(f"{i}", [jpeg()], dict(LONG))) for i in range(40)]
        client.poll_until(lambda: all(r.accepted for r in requests), 20)
        begin()
        others = []

        def is_refused():
            other = Client(daemon.socket_path)
            try:
                others.append(other.submit(Request("late", [], {"max_tokens": 1})))
                other.poll_until(lambda: others[-1].accepted or others[-1].refused, 20)
                return others[-1].refused is not None
            finally:
                other.close()
        wait_until(is_refused, 20, "new requests are refused")
        late = others[-1]
        self.assertEqual(late.refused["code"], "closed")
        self.assertGreater(late.refused["retry_after_ms"], 0)
        self.assertIn("draining", late.refused["message"])
        client.poll_until(lambda: all(r.finished for r in requests), 60)
        for request in requests:
            self.assert_answer(request)
        self.assertEqual(daemon.process.wait(patient(30)), 0)
        wait_until(lambda: everything_is_gone(self.everybody), 5, "ends")
        self.assertFalse(os.path.exists(daemon.socket_path))

    def slow_pool(self, **options):
        daemon, client = self.pool(watches=True, workers=2, worker="echo.token_us = 5000",
                                   **options)
        self.everybody = self.family(daemon)
        return daemon, client

    def test_drain_finishes_what_is_accepted(self):
        daemon, client = self.slow_pool()
        commands = []
        self.drain_under_load(daemon, client,
                              lambda: commands.append(self.facet(daemon, "drain")))
        self.assertEqual(commands[0].wait(patient(10)), 0)
        self.assertIn("every accepted request was finished", commands[0].stdout.read())

    def test_sigterm_drains(self):
        daemon, client = self.slow_pool(supervisor="")
        self.drain_under_load(daemon, client,
                              lambda: daemon.process.send_signal(signal.SIGTERM))

    def test_broker_and_worker_killed_while_draining(self):
        daemon, client = self.slow_pool()

        def begin():
            self.facet(daemon, "drain")
            wait_until(lambda: "draining unfinished" in daemon.log_tail(400), 10, "the drain")
            os.kill(daemon.workers()[0], signal.SIGKILL)
            os.kill(daemon.broker(), signal.SIGKILL)
        self.drain_under_load(daemon, client, begin)

    def test_deadline_cuts_and_says_so(self):
        daemon, client = self.slow_pool()
        request = client.submit(Request("1", [], {"max_tokens": 4000, "ignore_eos": True}))
        client.poll_until(lambda: request.tokens, 20)
        drain = self.facet(daemon, "drain", "--deadline", "200ms")
        self.assertEqual(drain.wait(patient(20)), 1)
        self.assertIn("1 requests unfinished", drain.stdout.read())
        self.assertEqual(daemon.process.wait(patient(20)), 0)

    def test_a_drain_is_taken_back(self):
        daemon, client = self.slow_pool()
        tokens = round(patient(300))  # not through before the command is there that takes it back
        request = client.submit(Request("1", [], {"max_tokens": tokens, "ignore_eos": True}))
        client.poll_until(lambda: request.tokens, 20)
        drain = self.facet(daemon, "drain")
        client.poll_until(lambda: client.status()["draining"], 10)
        self.assertEqual(self.facet(daemon, "drain", "--cancel").wait(patient(10)), 0)
        self.assertEqual(drain.wait(patient(10)), 1)
        client.run([Request("2", [jpeg()], dict(LONG))], timeout_s=30)
        client.poll_until(lambda: request.finished, 30)
        self.assert_answer(request)
        self.assert_rests(client)


if __name__ == "__main__":
    run_tests()
