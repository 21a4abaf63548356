"""The five dispatch policies over real workers, one of them three times slower.

    pool_policies.py BIN_DIR [unittest arguments]

Shares are judged against the speeds at which the workers were measured in the same run: on a busy
host none is as fast as it was told to be. dispatch_share_test has the same in virtual time.
"""

import json
import time
from collections import Counter

from patience import patient
from pool_case import PoolTest, run_tests
from pool_client import Request
from pool_daemon import wait_until

POLICIES = ("least_loaded", "least_connections", "round_robin", "weighted", "predicted_time")
SLOW = 2  # the third of three
TOKEN_US = [5000, 5000, 15000]
LANES = 3
IN_FLIGHT = 36  # all workers have more than they can run at once, where a policy lets them
COUNTED_TOKENS = 3000
LOOK_EVERY_S = 0.05
# All workers slower by this: on a host too busy for the fast ones to be faster than the slow one.
PACES = (1, 4)


def length_of(number):
    """10 to 29 tokens; three in a row are equal, so that a round robin gives all three the same."""
    return 10 + number // 3 * 7 % 20


class Look:
    """What the broker says of its workers."""

    def __init__(self, status):
        workers = status["workers"]
        self.time = status["uptime_s"]
        self.finished = sum(w["finished"] for w in workers)
        self.tokens = [w["tokens"] for w in workers]
        self.outstanding = [w["outstanding"] for w in workers]
        self.speeds = [w["sequence_tokens_per_second"] for w in workers]


def speeds_of(looks):
    """Tokens a second of each worker while it had more than it can run at once."""
    speeds = []
    for worker in range(len(looks[0].tokens)):
        busy = [(a, b) for a, b in zip(looks, looks[1:])
                if min(a.outstanding[worker], b.outstanding[worker]) >= LANES]
        seconds = sum(b.time - a.time for a, b in busy)
        assert seconds > 0.5, f"worker {worker} had enough to do for {seconds:.2f} s only"
        speeds.append(sum(b.tokens[worker] - a.tokens[worker] for a, b in busy) / seconds)
    return speeds


def parts(numbers):
    return [number / sum(numbers) for number in numbers]


def furthest(shares, ideal):
    return max(abs(share / wanted - 1) for share, wanted in zip(shares, ideal))


class Policies(PoolTest):
    def workers_of(self, policy, token_us, lanes=64):
        return self.pool(workers=len(token_us), broker=f'dispatch = "{policy}"',
                         worker=f"max_lanes = {lanes}\ncredits = 64",
                         env={"FACET_ECHO_TOKEN_US": " ".join(str(us) for us in token_us)})

    def looks_under_load(self, client, is_settled):
        """Keeps IN_FLIGHT requests under way; looks from when it is settled until COUNTED_TOKENS
        are made. What is under way then is cancelled."""
        looks, running, number, look_at = [], [], 0, 0.0
        deadline = time.monotonic() + patient(90)
        while not looks or sum(looks[-1].tokens) - sum(looks[0].tokens) < COUNTED_TOKENS:
            self.assertLess(time.monotonic(), deadline)
            while len(running) < IN_FLIGHT:
                params = {"max_tokens": length_of(number), "ignore_eos": True}
                running.append(client.submit(Request(f"{number}", [], params)))
                number += 1
            client.poll(0.02)
            for request in [r for r in running if r.finished]:
                self.assertEqual(request.done["finish_reason"], "length")
                running.remove(request)
            if client.status_json is not None:
                look = Look(json.loads(client.status_json))
                client.status_json = None
                if looks or is_settled(look):
                    looks.append(look)
            elif time.monotonic() > look_at:
                look_at = time.monotonic() + LOOK_EVERY_S
                client.ask_for_status()
        for request in running:
            client.cancel(request)
        client.poll_until(lambda: all(r.finished for r in running), 30)
        return looks

    def looks_with_a_slow_worker(self, policy):
        """Looks, and the speeds: the third is slower by far."""
        for pace in PACES:
            _, client = self.workers_of(policy, [us * pace for us in TOKEN_US], LANES)
            looks = self.looks_under_load(client, lambda look: look.finished >= 60)
            speeds = speeds_of(looks)
            if speeds[SLOW] < 0.6 * min(speeds[:SLOW]):
                return looks, speeds
            print(f"{policy}: a busy host, none is slower: {speeds} tokens/s", flush=True)
        raise AssertionError("none is slower")

    def test_a_slow_worker_gets_the_share_that_it_can_do(self):
        """All have more than they can run at once, and the third takes three times as long. Who
        goes by load or speed gives each what it can do; a round robin gives all the same, so that
        what is under way gathers at the slow one and the others have too little."""
        ideal = {}
        for policy in POLICIES:
            with self.subTest(policy=policy):
                if policy == "round_robin":
                    _, client = self.workers_of(policy, TOKEN_US, LANES)
                    looks = self.looks_under_load(
                        client, lambda look: look.outstanding[SLOW] >= IN_FLIGHT - 3)
                    ideal[policy] = [1 / 3] * 3
                else:
                    looks, speeds = self.looks_with_a_slow_worker(policy)
                    ideal[policy] = parts(speeds)
                shares = parts([b - a for a, b in zip(looks[0].tokens, looks[-1].tokens)])
                off = furthest(shares, ideal[policy])
                print(f"{policy}: shares {[round(s, 3) for s in shares]}, ideal "
                      f"{[round(s, 3) for s in ideal[policy]]}, off by {off:.3f}", flush=True)
                self.assertLess(off, 0.1)
                if policy == "round_robin":  # which the others are not
                    self.assertGreater(furthest(shares, ideal["least_loaded"]), 0.1)

    def test_five_requests_that_stay_tell_three_policies_apart(self):
        """A long one and four short ones, none of which ends meanwhile."""
        expected = {"least_loaded": [1, 4], "least_connections": [2, 3], "round_robin": [3, 2]}
        for policy, wanted in expected.items():
            with self.subTest(policy=policy):
                _, client = self.workers_of(policy, [500000, 500000])
                requests = []
                for index, length in enumerate((5000, 500, 500, 500, 500)):
                    requests.append(client.submit(
                        Request(f"{index}", [], {"max_tokens": length, "ignore_eos": True})))
                    client.poll_until(lambda r=requests[-1]: r.accepted, 10)
                self.assertEqual(Look(client.status()).outstanding, wanted)
                for request in requests:
                    client.cancel(request)
                client.poll_until(lambda r=requests: all(q.finished for q in r), 20)

    def test_one_at_a_time_tells_the_others_apart(self):
        """Both workers idle each time, the first one three times slower."""
        shares, ideal = {}, {}
        for policy in POLICIES:
            _, client = self.workers_of(policy, [9000, 3000])
            params = {"max_tokens": 5, "ignore_eos": True}
            client.run([Request(f"{i}", [], params) for i in range(24)], in_flight=8)
            wait_until(lambda c=client: min(Look(c.status()).speeds) > 0, 10, "measured speeds")
            before = Look(client.status())
            client.run([Request(f"{i}", [], params) for i in range(40)], in_flight=1)
            after = Look(client.status())
            made = [b - a for a, b in zip(before.tokens, after.tokens)]
            self.assertEqual(sum(made), 200)
            shares[policy] = parts(made)[0]
            ideal[policy] = parts([a + b for a, b in zip(before.speeds, after.speeds)])[0]
        print({policy: round(share, 3) for policy, share in shares.items()},
              f"weighted: ideal {ideal['weighted']:.3f}", flush=True)
        self.assertEqual(shares["least_loaded"], 1.0)  # a tie: the first
        self.assertEqual(shares["least_connections"], 1.0)
        self.assertEqual(shares["round_robin"], 0.5)
        self.assertAlmostEqual(shares["weighted"], ideal["weighted"], delta=0.1)  # of few requests
        self.assertEqual(shares["predicted_time"], 0.0)
        self.assertEqual(len(Counter(shares.values())), 4)


if __name__ == "__main__":
    run_tests()
