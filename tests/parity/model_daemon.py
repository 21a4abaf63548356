"""A private facetd with real workers on a random checkpoint, and the goldens as requests."""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
DATA = os.path.join(ROOT, "tests", "data")
sys.path[:0] = [os.path.join(ROOT, "scripts"), os.path.join(ROOT, "tests", "integration")]

import make_fixture_checkpoint as fixture  # noqa: E402
from pool_client import Request  # noqa: E402
from pool_daemon import Daemon  # noqa: E402

CONFIG = """
[model]
path = "{model}"
dtype = "{dtype}"
[worker]
count = {workers}
threads = 1
device_max_memory = "{memory}"
{worker}
[broker]
runtime_dir = "{folder}/run"
{broker}
[ring]
ingest_bytes = "64MiB"
pixel_bytes = "128MiB"
{ring}
[supervisor]
drain_ms = 5000
{supervisor}
[log]
level = "info"
file = "{folder}/facet.log"
"""


class ModelDaemon(Daemon):
    """Daemon of the pool tests with `model` (a directory) instead of the echo engine."""

    def __init__(self, bin_dir, model, workers=2, dtype="fp32", memory="600MB",
                 **sections):
        super().__init__(bin_dir, workers)
        lines = {name: sections.get(name, "")
                 for name in ("worker", "broker", "ring", "supervisor")}
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(folder=self.folder, model=model, dtype=dtype, memory=memory,
                                     workers=workers, **lines))

    def workers(self):
        return self.pids("facet-worker")


class Goldens:
    """A file of scripts/make_goldens.py or make_parity_goldens.py, and its checkpoint."""

    def __init__(self, name):
        with open(os.path.join(DATA, name), encoding="utf-8") as file:
            self.root = json.load(file)
        self.cases = self.root["cases"]

    def make_checkpoint(self, directory):
        fixture.make(directory, 1, self.root.get("old_spelling", False),
                     self.root.get("nested_names", False), self.root.get("shape", "plain"))
        assert fixture.digest(directory) == self.root["fixture_sha256"], directory

    def request(self, number, max_tokens=None):
        """The case as a client sends it: images are files, whatever their place."""
        case = self.cases[number]
        messages, images = [], []
        for message in case["messages"]:
            content = message["content"]
            if not isinstance(content, str):
                content = [self.part(part, images) for part in content]
            messages.append({"role": message["role"], "content": content})
        params = {"max_tokens": max_tokens or len(case["output_ids"]), "ignore_eos": True,
                  "repetition_penalty": case.get("repetition_penalty", 0.0)}
        request = Request("", images, params)
        request.messages = messages
        request.number = number
        return request

    def part(self, part, images):
        if part["type"] == "text":
            return part
        with open(os.path.join(DATA, part["image"]), "rb") as file:
            images.append(file.read())
        return {"type": "image", "image": len(images) - 1}

    def problem(self, request):
        """None, or how the answer is not transformers'. A tie may fall either way."""
        case = self.cases[request.number]
        what = f"case {request.number}: "
        if request.done is None:
            return what + f"refused {request.refused}"
        wanted = case["output_ids"][:request.params["max_tokens"]]
        if request.done["finish_reason"] != "length" or len(request.tokens) != len(wanted):
            return what + f"{len(request.tokens)} tokens, {request.done}"
        if case.get("is_tie"):
            return None
        for at, (got, want) in enumerate(zip(request.tokens, wanted)):
            if got != want:
                return what + f"token {at} is {got}, not {want}; {request.done}"
        if "text" in case and len(wanted) == len(case["output_ids"]) and \
                request.text != case["text"]:
            return what + f"text {request.text!r}, not {case['text']!r}"
        return None
