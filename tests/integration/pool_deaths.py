"""The whole pool while its processes die, hang, stop and drain, or all stand still together.

    pool_deaths.py BIN_DIR [unittest arguments]
"""

import contextlib
import os
import random
import signal
import time

from patience import patient, patient_ms
from pool_case import SEED, PoolTest, jpeg, run_tests
from pool_client import Client, Request
from pool_daemon import count_fds, family_of, state_of, wait_until


def deadlines(step_ms):
    return (f"step_deadline_ms = {patient_ms(step_ms)}\nidle_deadline_ms = {patient_ms(1500)}\n"
            "kill_grace_ms = 200")


class Deaths(PoolTest):
    def test_stopped_worker_is_replaced_and_its_requests_go_on(self):
        daemon, client = self.pool(
            workers=2, worker="echo.token_us = 5000",
            supervisor=deadlines(step_ms=1000))
        # Long enough to be at work still when this process has seen the first tokens.
        params = {"max_tokens": round(patient(300)), "ignore_eos": True}
        requests = [client.submit(Request(f"{i}", [jpeg()], params)) for i in range(8)]
        client.poll_until(lambda: all(r.tokens for r in requests), 10)
        stopped = daemon.workers()[0]
        os.kill(stopped, signal.SIGSTOP)
        client.poll_until(lambda: all(r.finished for r in requests), 30)
        for request in requests:
            self.assert_answer(request)
        self.assertGreater(sum(r.done["attempts"] > 1 for r in requests), 0)
        wait_until(lambda: state_of(stopped) == "", 10, "the stopped worker is gone")
        self.wait_ready(client, 2)
        self.assert_rests(client)

    def test_hanging_engine_is_seen_and_its_request_quarantined(self):
        daemon, client = self.pool(
            workers=2, worker="echo.token_us = 1000",
            supervisor=deadlines(step_ms=500))
        poison = Request("\x01crash:hang@3", [], {"max_tokens": 50, "ignore_eos": True})
        self.run_with_poison(daemon, client, poison)

    def test_poison_is_quarantined_and_the_others_finish(self):
        for kind in ("segv", "abort", "exit", "engine"):
            with self.subTest(kind=kind):
                daemon, client = self.pool(workers=2, worker="echo.token_us = 1000")
                poison = Request(f"\x01crash:{kind}@3", [jpeg()],
                                 {"max_tokens": 50, "ignore_eos": True})
                self.run_with_poison(daemon, client, poison)

    def run_with_poison(self, daemon, client, poison):
        others = [Request(f"{i}", [jpeg()], {"max_tokens": 100, "ignore_eos": True})
                  for i in range(30)]
        client.run(others[:10] + [poison] + others[10:], timeout_s=60)
        self.assertEqual(poison.done["finish_reason"], "error", poison.done)
        self.assertEqual(poison.done["code"], "quarantined", poison.done)
        # What the last steps before a fault computed may die with the worker's socket.
        self.assertLessEqual(len(poison.tokens), 3)
        for request in others:
            self.assert_answer(request)
        status = client.status()
        self.assertLessEqual(sum(w["own_fault_deaths"] for w in status["workers"]), 2)
        self.wait_ready(client, daemon.num_workers)
        self.assert_rests(client)

    def test_outside_kills_never_quarantine(self):
        _, client = self.pool(workers=2, worker="echo.token_us = 1000")
        request = Request("\x01crash:kill@5x4", [jpeg()], {"max_tokens": 30, "ignore_eos": True,
                                                            "logprobs": 2})
        client.run([request], timeout_s=60)
        self.assert_answer(request)
        self.assertEqual(request.done["attempts"], 5)

    def test_killed_broker_is_replaced_and_every_stream_goes_on(self):
        daemon, client = self.pool(workers=2, worker="echo.token_us = 10000")
        params = {"max_tokens": round(patient(500)), "ignore_eos": True}
        requests = [client.submit(Request(f"{i}", [jpeg()], {**params, "logprobs": i}))
                    for i in range(20)]
        workers = daemon.workers()
        for life in (1, 2):
            count = [len(r.tokens) for r in requests]
            client.poll_until(lambda c=count: all(len(r.tokens) > n + 3
                                                  for r, n in zip(requests, c)), 20)
            self.assertEqual(client.status()["epoch"], life)
            os.kill(daemon.broker(), signal.SIGKILL)
        client.poll_until(lambda: all(r.finished for r in requests), 40)
        for request in requests:
            self.assert_answer(request)
            self.assertEqual(request.done["attempts"], 1)  # the workers computed on
        self.assertEqual(daemon.workers(), workers)
        self.assert_rests(client)

    def test_one_sequence_fails_or_is_handed_back_alone(self):
        _, client = self.pool(worker="echo.token_us = 1000")
        fails = Request("\x01crash:fail@3", [jpeg()], {"max_tokens": 30, "ignore_eos": True})
        back = Request("\x01crash:preempt@7x3", [jpeg()], {"max_tokens": 30, "ignore_eos": True})
        others = [Request(f"{i}", [jpeg()], {"max_tokens": 30}) for i in range(10)]
        client.run([fails, back] + others)
        self.assertEqual(fails.done["finish_reason"], "error")
        self.assertEqual(len(fails.tokens), 3)
        self.assert_answer(back)
        self.assertEqual(back.done["attempts"], 4)
        for request in others:
            self.assert_answer(request)
        self.assertEqual(sum(w["deaths"] for w in client.status()["workers"]), 0)

    def test_drain_finishes_what_runs_and_leaves_nothing(self):
        daemon, client = self.pool(worker="echo.token_us = 5000")
        requests = [client.submit(Request(f"{i}", [jpeg()], {"max_tokens": 200,
                                                             "ignore_eos": True}))
                    for i in range(10)]
        client.poll_until(lambda: all(r.tokens for r in requests), 10)
        daemon.process.send_signal(signal.SIGTERM)
        client.poll_until(lambda: all(r.finished for r in requests), 20)
        for request in requests:
            self.assert_answer(request)
        self.assertEqual(daemon.process.wait(patient(10)), 0)
        self.assertFalse(os.path.exists(daemon.socket_path))

    def test_descriptors_stay_flat_over_clients_and_work(self):
        daemon, client = self.pool(worker="echo.token_us = 0")
        broker = daemon.broker()

        def work():
            one = Client(daemon.socket_path)
            one.run([Request(f"{i}", [jpeg()], {"max_tokens": 3}) for i in range(5)])
            one.close()
        work()
        wait_until(lambda: client.status()["clients"]["connections"] == 1, 5, "one connection")
        before = count_fds(broker), count_fds(daemon.process.pid)
        for _ in range(20):
            work()
        wait_until(lambda: (count_fds(broker), count_fds(daemon.process.pid)) == before, 5,
                   "descriptors are back")


class Suspended(PoolTest):
    def test_who_wakes_together_is_not_blamed(self):
        """As on a host that was suspended: nobody runs for longer than every deadline, then twice
        for a little less than one. In that time nobody could show progress, or see any."""
        deadline_s = patient(2)
        daemon, client = self.pool(
            workers=2, worker="echo.token_us = 5000",
            supervisor="".join(f"{name}_deadline_ms = {round(1000 * deadline_s)}\n"
                               for name in ("step", "idle", "broker")))
        rng = random.Random(SEED)
        before = daemon.workers(), daemon.broker()
        requests = [Request(f"{i}", [jpeg()], {"max_tokens": 150, "ignore_eos": True})
                    for i in range(40)]
        rests = [3 * deadline_s, 0.9 * deadline_s, 0.9 * deadline_s]
        tokens_before = [500, 1500, 2500]  # of 6000

        def turn():
            if rests and sum(len(r.tokens) for r in requests) > tokens_before[-len(rests)]:
                self.suspend(daemon, rests.pop(0), rng)
        client.run(requests, in_flight=16, on_turn=turn)
        self.assertEqual(rests, [])
        for request in requests:
            self.assert_answer(request)
            self.assertEqual(request.done["attempts"], 1)
        status = self.assert_rests(client)
        self.assertEqual((daemon.workers(), daemon.broker()), before)
        self.assertEqual(sum(w["deaths"] for w in status["workers"]), 0)
        self.assertEqual(status["counters"]["decode_retries"], 0)

    @staticmethod
    def suspend(daemon, seconds, rng):
        family = family_of(daemon.process.pid)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            rng.shuffle(family)
            for pid in family:
                with contextlib.suppress(ProcessLookupError):  # a decoder's child that was through
                    os.kill(pid, number)
            if number == signal.SIGSTOP:
                time.sleep(seconds)


if __name__ == "__main__":
    run_tests()
