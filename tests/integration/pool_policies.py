"""The five dispatch policies over real workers, one of them three times slower.

    pool_policies.py BIN_DIR [unittest arguments]
"""

import json
from collections import Counter

from pool_case import PoolTest, run_tests
from pool_client import Request
from pool_daemon import wait_until

POLICIES = ("least_loaded", "least_connections", "round_robin", "weighted", "predicted_time")
TOKENS = {"max_tokens": 20, "ignore_eos": True}


class Policies(PoolTest):
    def workers_of(self, policy, token_us, lanes=64):
        return self.pool(workers=len(token_us), broker=f'dispatch = "{policy}"',
                         worker=f"max_lanes = {lanes}\ncredits = 64",
                         env={"FACET_ECHO_TOKEN_US": " ".join(str(us) for us in token_us)})

    def tokens(self, client):
        return [w["tokens"] for w in client.status()["workers"]]

    def shares(self, client, num_requests, in_flight):
        """Of the tokens that each worker made meanwhile."""
        before = self.tokens(client)
        client.run([Request(f"{i}", [], TOKENS) for i in range(num_requests)], in_flight,
                   timeout_s=90)
        made = [after - b for after, b in zip(self.tokens(client), before)]
        self.assertEqual(sum(made), 20 * num_requests)
        return [number / sum(made) for number in made]

    def shares_under_load(self, client, in_flight=36, warm_up=60, count=200):
        """Of the tokens made while so many are in flight: neither start nor end count."""
        requests = [Request(f"{i}", [], {"max_tokens": 10 + i % 21, "ignore_eos": True})
                    for i in range(warm_up + count + in_flight)]
        seen = []  # (finished requests, tokens of each worker)

        def look():
            if client.status_json is not None:
                workers = json.loads(client.status_json)["workers"]
                seen.append((sum(w["finished"] for w in workers), [w["tokens"] for w in workers]))
            client.status_json = None
            client.ask_for_status()
        client.run(requests, in_flight, timeout_s=90, on_turn=look)
        first = next(tokens for finished, tokens in seen if finished >= warm_up)
        last = next(tokens for finished, tokens in reversed(seen) if finished <= warm_up + count)
        made = [b - a for a, b in zip(first, last)]
        self.assertGreater(sum(made), 0.9 * 20 * count)
        return [number / sum(made) for number in made]

    def test_a_slow_worker_gets_the_share_that_it_can_do(self):
        """All have more than they can run at once, and the third takes three times as long. Who
        goes by load or speed gives it a third of what the others get; a round robin does not."""
        for policy in POLICIES:
            with self.subTest(policy=policy):
                ideal = [1 / 3] * 3 if policy == "round_robin" else [3 / 7, 3 / 7, 1 / 7]
                _, client = self.workers_of(policy, [5000, 5000, 15000], lanes=3)
                found = self.shares_under_load(client)
                print(policy, [round(share, 3) for share in found], flush=True)
                for share, wanted in zip(found, ideal):
                    self.assertAlmostEqual(share, wanted, delta=0.1 * wanted)

    def test_five_requests_that_stay_tell_three_policies_apart(self):
        """A long one and four short ones, none of which ends meanwhile."""
        expected = {"least_loaded": [1, 4], "least_connections": [2, 3], "round_robin": [3, 2]}
        for policy, wanted in expected.items():
            with self.subTest(policy=policy):
                _, client = self.workers_of(policy, [2000000, 2000000])
                requests = []
                for index, length in enumerate((1000, 10, 10, 10, 10)):
                    requests.append(client.submit(
                        Request(f"{index}", [], {"max_tokens": length, "ignore_eos": True})))
                    client.poll_until(lambda r=requests[-1]: r.accepted, 10)
                outstanding = [w["outstanding"] for w in client.status()["workers"]]
                self.assertEqual(outstanding, wanted)
                for request in requests:
                    client.cancel(request)
                client.poll_until(lambda r=requests: all(q.finished for q in r), 20)

    def test_one_at_a_time_tells_the_others_apart(self):
        """Both workers idle each time, the first one three times slower."""
        shares = {}
        for policy in POLICIES:
            _, client = self.workers_of(policy, [9000, 3000])
            client.run([Request(f"{i}", [], TOKENS) for i in range(24)], in_flight=8)
            wait_until(lambda c=client: all(w["sequence_tokens_per_second"] > 0 for w in
                                            c.status()["workers"]), 10, "measured speeds")
            shares[policy] = self.shares(client, 40, 1)[0]
        print({policy: round(share, 3) for policy, share in shares.items()}, flush=True)
        self.assertEqual(shares["least_loaded"], 1.0)  # a tie: the first
        self.assertEqual(shares["least_connections"], 1.0)
        self.assertEqual(shares["round_robin"], 0.5)
        self.assertAlmostEqual(shares["weighted"], 0.25, delta=0.05)
        self.assertEqual(shares["predicted_time"], 0.0)
        self.assertEqual(len(Counter(shares.values())), 4)


if __name__ == "__main__":
    run_tests()
