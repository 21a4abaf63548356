"""Ten poison images and ten poison prompts among a thousand good requests.

    pool_poison.py BIN_DIR [unittest arguments]
"""

import io
import os
import random
import re
import time

from PIL import Image

from patience import patient_ms
from pool_case import SEED, PoolTest, run_tests
from pool_client import ASK_AGAIN_S, Request
from pool_images import mixed_images

NUM_GOOD = 1000
IN_FLIGHT = 60
KINDS = ["segv", "abort", "exit", "engine", "segv", "abort", "exit", "engine", "segv", "hang"]


def poison_image(kind, position, rng):
    """Its first pixels spell a hook of the echo worker."""
    width, height = rng.randint(20, 60), rng.randint(20, 60)
    text = f"\x01crash:{kind}@{position} ".encode()
    pixels = text + rng.randbytes(3 * width * height - len(text))
    out = io.BytesIO()
    Image.frombytes("RGB", (width, height), pixels).save(out, "PNG")
    return out.getvalue()


def deaths_in(log):
    """What each worker that ended by its own fault held, in the order of their deaths."""
    held, order = {}, []
    for line in log.splitlines():
        if found := re.search(r"(?:last_words|dying) .*incarnation=(\d+).* requests=([0-9a-f,]*)",
                              line):
            held[found[1]] = found[2].split(",")
        if found := re.search(r"worker_dead .*incarnation=(\d+) own_fault=1", line):
            order.append(found[1])
    return [held[incarnation] for incarnation in order]


class Poison(PoolTest):
    def test_ten_images_and_ten_prompts_among_a_thousand(self):
        # credits: fewer than the black box shows requests
        daemon, client = self.pool(
            worker="echo.token_us = 1000\nmax_lanes = 8\ncredits = 12",
            supervisor=f"step_deadline_ms = {patient_ms(3000)}\nkill_grace_ms = 200")
        rng = random.Random(SEED)
        images = mixed_images(SEED, 40, max_side=120)
        good = [Request(f"{i}", rng.choices(images, k=rng.choice([0, 1, 1, 2])),
                        {"max_tokens": rng.randint(1, 30), "seed": i}) for i in range(NUM_GOOD)]
        forever = {"max_tokens": 40, "ignore_eos": True}
        poison = [Request(f"\x01crash:{kind}@{rng.randrange(6)}", [rng.choice(images)], forever)
                  for kind in KINDS]
        poison += [Request(f"look {i}", [rng.choice(images), poison_image(kind, i % 6, rng)],
                           forever) for i, kind in enumerate(KINDS)]
        first = good[:IN_FLIGHT - len(poison)] + poison  # all poison is there at once
        rng.shuffle(first)
        everything = first + good[IN_FLIGHT - len(poison):]

        seen = []  # workers held for a suspect at one moment, as status tells it
        asked = 0.0

        def look():
            nonlocal asked
            if client.status_json is not None:
                seen.append(client.status_json.count('"held_for_suspect":true'))
                client.status_json = None
            # One question at a time, since each goes through every record. Of a client with many
            # streams an answer may be dropped.
            if not client.waits_for_status or time.monotonic() > asked + ASK_AGAIN_S:
                asked = time.monotonic()
                client.ask_for_status()
        client.run(everything, in_flight=IN_FLIGHT, timeout_s=100, on_turn=look)

        for request in good:
            self.assert_answer(request)
        for request in poison:
            self.assertEqual(request.done["finish_reason"], "error", request.done)
            self.assertEqual(request.done["code"], "quarantined", request.done)
            self.assertIn("while it ran alone", request.done["message"])
        self.assertLessEqual(max(seen), 1)
        self.wait_ready(client, daemon.num_workers)
        self.check_deaths(daemon, {r.id.hex() for r in poison})
        self.assert_rests(client)

    def check_deaths(self, daemon, poison):
        """Whoever was there when a worker died runs alone from then on, and no poison kills more
        than two: one in company and one alone."""
        with open(os.path.join(daemon.folder, "facet.log"), encoding="utf-8") as file:
            log = file.read()
        deaths = deaths_in(log)
        suspects = set()
        for held in deaths:
            if suspects & set(held):
                self.assertEqual(len(held), 1, f"a suspect in company: {held}")
                self.assertIn(held[0], poison)
            suspects |= set(held)
        alone = [held[0] for held in deaths if len(held) == 1]
        self.assertGreaterEqual(set(alone), poison)
        self.assertLessEqual(len(deaths), 2 * len(poison))
        for identity in poison:
            self.assertLessEqual(sum(identity in held for held in deaths), 2)
            self.assertIn(f"request {identity} is quarantined", log)
        # Not the broker's counters: where nothing runs for ten seconds it is replaced meanwhile.
        self.assertEqual(log.count(" is quarantined"), len(poison))
        self.assertNotIn(" kill_worker ", log)  # none broke the protocol
        print(f"{len(deaths)} deaths, {len(suspects)} suspects", flush=True)


if __name__ == "__main__":
    run_tests()
