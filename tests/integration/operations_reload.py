"""A new configuration for a daemon that serves: good files, bad ones, and ones of which a part
cannot be put in effect.

    operations_reload.py BIN_DIR [unittest arguments]
"""

import os
import re
import signal

from pool_case import PoolTest, jpeg, run_tests
from pool_client import Client, Request
from pool_daemon import DRAIN_MS, wait_until

ECHO = "echo.token_us = 2000"


class Reloads(PoolTest):
    def run_facet(self, daemon, *arguments):
        return self.outcome(self.facet(daemon, *arguments))

    def edit(self, daemon, old, new):
        with open(daemon.config, encoding="utf-8") as file:
            text = file.read()
        self.assertIn(old, text)
        with open(daemon.config, "w", encoding="utf-8") as file:
            file.write(text.replace(old, new))

    def generation(self, client):
        return client.status()["config_generation"]

    def wait_generation(self, client, expected):
        wait_until(lambda: self.generation(client) == expected, 20, f"configuration {expected}")

    def refusal(self, client, **options):
        request = client.submit(Request("?", [], {"max_tokens": 50, **options}))
        client.poll_until(lambda: request.refused or request.done, 20)
        return request.refused

    def test_limits_count_at_once_and_running_requests_go_on(self):
        daemon, client = self.pool(workers=2, worker=ECHO, broker="max_tokens_limit = 300")
        running = [client.submit(Request(f"{i}", [jpeg()], {"max_tokens": 250, "ignore_eos": True}))
                   for i in range(8)]
        client.poll_until(lambda: all(r.tokens for r in running), 20)
        self.assertEqual(self.generation(client), 1)
        self.edit(daemon, "max_tokens_limit = 300",
                  "max_tokens_default = 20\nmax_tokens_limit = 40\ndispatch = \"round_robin\"")
        before = set(daemon.workers()) | {daemon.broker()}
        code, output = self.run_facet(daemon, "reload")
        self.assertEqual(code, 0, output)
        self.assertIn("broker.max_tokens_limit: 300 -> 40", output)
        self.assertIn("broker.dispatch: \"least_loaded\" -> \"round_robin\"", output)
        self.assertIn("configuration 2 is in effect", output)
        self.wait_generation(client, 2)
        self.assertIn("40", self.refusal(client)["message"])
        client.poll_until(lambda: all(r.finished for r in running), 60)
        for request in running:
            self.assert_answer(request)
        self.assertEqual(before, set(daemon.workers()) | {daemon.broker()})
        code, output = self.run_facet(daemon, "reload")
        self.assertEqual((code, output), (0, "no change: configuration 2 stays in effect\n"))
        # A new broker reads the same.
        os.kill(daemon.broker(), signal.SIGKILL)
        fresh = Client(daemon.socket_path)
        self.addCleanup(fresh.close)
        self.wait_ready(fresh, 2)
        self.assertEqual(self.generation(fresh), 2)
        self.assertIn("40", self.refusal(fresh)["message"])
        self.assertEqual(daemon.log_tail(1000).count("configuration_read"), 1)  # the former's

    def test_what_cannot_change_refuses_all_of_it_by_name(self):
        daemon, client = self.pool(workers=2, worker=ECHO, broker="max_tokens_limit = 300")
        self.edit(daemon, "max_tokens_limit = 300", "max_tokens_default = 20\n"
                                                    "max_tokens_limit = 40")
        self.edit(daemon, "count = 2", "count = 3\nmax_lanes = 5")
        self.edit(daemon, 'pixel_bytes = "128MiB"', 'pixel_bytes = "64MiB"')
        code, output = self.run_facet(daemon, "reload")
        self.assertEqual(code, 1)
        for part in ("worker.count: 2 -> 3: only a restart of the daemon",
                     "worker.max_lanes: 16 -> 5: only new processes take that: "
                     "facet restart --rolling",
                     'ring.pixel_bytes: "128MiB" -> "64MiB"', "nothing has changed"):
            self.assertIn(part, output)
        self.assertNotIn("max_tokens_limit", output)
        code, output = self.run_facet(daemon, "restart", "--rolling")
        self.assertEqual(code, 1)
        self.assertIn("worker.count: 2 -> 3", output)
        self.assertEqual(self.generation(client), 1)
        self.assertIsNone(self.refusal(client))

    def test_bad_files_change_nothing(self):
        daemon, client = self.pool(workers=1, worker=ECHO)
        with open(daemon.config, encoding="utf-8") as file:
            good = file.read()
        # `facet --config` reads the file to find the daemon: here it goes by the socket.
        def reload():
            return self.outcome(self.start_facet("reload", "--socket", daemon.socket_path))
        for text, said in (("[worker", "facet.toml:1"), (good + "\n[brocer]\n", "brocer"),
                           (good.replace("count = 1", "count = 1\nmax_lanes = 0\ncredits = -1"),
                            "worker.credits"), ("\0\1\2", "facet.toml"),
                           ("x" * (2 << 20), "1 MiB")):
            with open(daemon.config, "w", encoding="utf-8") as file:
                file.write(text)
            code, output = reload()
            self.assertEqual(code, 1, output)
            self.assertIn(said, output)
            self.assertIn("nothing has changed", output)
        os.unlink(daemon.config)
        code, output = reload()
        self.assertEqual(code, 1)
        self.assertIn("No such file", output)
        os.mkfifo(daemon.config)
        code, output = reload()
        self.assertEqual(code, 1)
        self.assertIn("not a regular file", output)
        self.assertEqual(self.generation(client), 1)
        self.assertIsNone(self.refusal(client))

    def test_sighup_reloads(self):
        daemon, client = self.pool(workers=1, worker=ECHO)
        self.edit(daemon, f"drain_ms = {DRAIN_MS}", f"drain_ms = {DRAIN_MS - 1000}")
        daemon.process.send_signal(signal.SIGHUP)
        self.wait_generation(client, 2)
        self.edit(daemon, "count = 1", "count = 2")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "worker.count: 1 -> 2" in daemon.log_tail(400), 20, "the refusal")
        self.assertEqual(self.generation(client), 2)

    def test_decoder_keys_replace_the_decoder(self):
        daemon, client = self.pool(workers=1, worker=ECHO)
        before = daemon.pids("facet-decoder")
        self.edit(daemon, "processes = 2", "processes = 1")
        self.assertEqual(self.run_facet(daemon, "reload")[0], 0)
        client.run([Request(f"{i}", [jpeg()], {"max_tokens": 5}) for i in range(20)], timeout_s=60)
        wait_until(lambda: set(daemon.pids("facet-decoder")) - set(before), 20, "a new decoder")
        self.assert_rests(client)

    def test_rolling_restart_takes_what_workers_read(self):
        daemon, client = self.pool(workers=2, worker=ECHO)
        self.edit(daemon, "count = 2", "count = 2\nmax_lanes = 3")
        code, output = self.run_facet(daemon, "restart", "--rolling")
        self.assertEqual(code, 0, output)
        self.assertIn("worker.max_lanes: 16 -> 3", output)
        self.assertIn("configuration 2 is in effect", output)
        fresh = Client(daemon.socket_path)
        self.addCleanup(fresh.close)
        self.wait_ready(fresh, 2)
        status = fresh.status()
        self.assertEqual(status["config_generation"], 2)
        self.assertEqual([w["credits"] for w in status["workers"]], [6, 6])

    def test_rolling_restart_to_more_clients_than_there_are_descriptors_is_refused(self):
        daemon, client = self.pool(through=["prlimit", "--nofile=468:468"], workers=1, worker=ECHO,
                                   broker="max_clients = 20")
        self.edit(daemon, "max_clients = 20", "max_clients = 200")
        before = set(daemon.workers()) | {daemon.broker()}
        code, output = self.run_facet(daemon, "restart", "--rolling")
        self.assertEqual(code, 1, output)
        self.assertIn("at most 468 open files are allowed, 648 are needed", output)
        self.assertEqual(before, set(daemon.workers()) | {daemon.broker()})
        self.assertEqual(self.generation(client), 1)

    def test_a_drain_gives_a_rolling_restart_up_and_the_former_configuration_is_back(self):
        daemon, client = self.pool(watches=True, workers=2, worker="echo.token_us = 20000",
                                   broker="max_tokens_limit = 9000")
        # Three minutes of work: there is something to drain until it is cancelled.
        requests = [client.submit(Request(f"{i}", [], {"max_tokens": 9000, "ignore_eos": True}))
                    for i in range(4)]
        client.poll_until(lambda: all(r.tokens for r in requests), 20)
        self.edit(daemon, "max_tokens_limit = 9000", "max_tokens_default = 20\n"
                                                    "max_tokens_limit = 40")
        roll = self.facet(daemon, "restart", "--rolling")
        self.wait_generation(client, 2)
        drain = self.facet(daemon, "drain")
        code, output = self.outcome(roll)
        self.assertEqual(code, 1, output)
        self.assertIn("given up: the daemon is draining", output)
        self.assertEqual(self.run_facet(daemon, "drain", "--cancel")[0], 0)
        self.assertEqual(self.outcome(drain)[0], 1)
        self.wait_generation(client, 3)
        for request in requests:
            client.cancel(request)
        client.poll_until(lambda: all(r.finished for r in requests), 60)
        later = Request("later", [], {"max_tokens": 60, "ignore_eos": True})
        client.run([later], timeout_s=60)
        self.assert_answer(later)

    def test_a_worker_that_the_new_configuration_ends_brings_the_former_back(self):
        daemon, client = self.pool(workers=1, worker=ECHO)
        requests = [client.submit(Request(f"{i}", [], {"max_tokens": 200, "ignore_eos": True}))
                    for i in range(4)]
        client.poll_until(lambda: all(r.tokens for r in requests), 20)
        self.edit(daemon, ECHO, ECHO + '\necho.memory = "4TiB"')
        code, output = self.run_facet(daemon, "restart", "--rolling")
        self.assertEqual(code, 1, output)
        self.assertRegex(output, re.compile("worker 0 .*given up", re.S))
        client.poll_until(lambda: all(r.finished for r in requests), 60)
        for request in requests:
            self.assert_answer(request)
        self.wait_ready(client, 1)
        self.assertEqual(self.generation(client), 3)
        self.assertIsNone(self.refusal(client))


if __name__ == "__main__":
    run_tests()
