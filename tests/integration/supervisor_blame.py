"""Who is to blame for a worker's death, as facetd tells the broker and the broker its clients.

    supervisor_blame.py BIN_DIR [unittest arguments]
"""

import os
import signal

from pool_case import PoolTest, run_tests
from pool_client import Request
from pool_daemon import wait_until


class Blame(PoolTest):
    def deaths(self, client):
        workers = client.status()["workers"]
        return (sum(w["deaths"] for w in workers), sum(w["own_fault_deaths"] for w in workers))

    def test_signals_from_outside_are_nobodys_fault(self):
        daemon, client = self.pool(workers=1, worker="echo.token_us = 5000")
        request = client.submit(Request("x", [], {"max_tokens": 200, "ignore_eos": True}))
        numbers = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGKILL)
        for count, number in enumerate(numbers, start=1):
            before = len(request.tokens)
            client.poll_until(lambda n=before: len(request.tokens) > n + 3, 20)
            os.kill(daemon.workers()[0], number)
            wait_until(lambda n=count: self.deaths(client)[0] == n, 10, "the death is counted")
            self.assertEqual(self.deaths(client)[1], 0, number)
            self.assertEqual(client.status()["workers"][0]["exit_code"], -number)
        client.poll_until(lambda: request.finished, 30)
        self.assert_answer(request)
        self.assertEqual(request.done["attempts"], len(numbers) + 1)
        log = daemon.log_tail(1000)
        self.assertIn(f"signal={int(signal.SIGSEGV)} si_code=0 phase=", log)
        self.assertIn(f"held=1 requests={request.id.hex()}", log)

    def test_faults_of_its_own_are_counted(self):
        for kind in ("segv", "abort", "exit", "engine"):
            with self.subTest(kind=kind):
                daemon, client = self.pool(workers=1, worker="echo.token_us = 1000")
                poison = Request(f"\x01crash:{kind}@3", [], {"max_tokens": 50,
                                                             "ignore_eos": True})
                client.run([poison], timeout_s=60)
                self.assertEqual(poison.done["code"], "quarantined", poison.done)
                deaths = self.deaths(client)
                self.assertEqual(deaths[0], deaths[1])
                self.assertGreater(deaths[1], 0)
                self.wait_ready(client, daemon.num_workers)


if __name__ == "__main__":
    run_tests()
