#!/usr/bin/env python3
"""Wrong requests and broken checkpoints, through the daemon: each gets an error that names what is
wrong and the limit, and the requests beside it are answered as if it had not been there.

bad_input.py BIN_DIR [unittest arguments]
"""

import io
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

import numpy as np
from PIL import Image

from model_daemon import Goldens, ModelDaemon, fixture
from pool_client import Client, Request
from pool_daemon import wait_idle, wait_ready

SEED = int(os.environ.get("FACET_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
NEIGHBOUR_TOKENS = 160
EXIT_BAD_MODEL = 72


def png(width, height):
    out = io.BytesIO()
    Image.new("RGB", (width, height), (9, 99, 199)).save(out, "PNG")
    return out.getvalue()


def user(*content):
    parts = [{"type": "image", "image": c} if isinstance(c, int) else {"type": "text", "text": c}
             for c in content]
    return [{"role": "user", "content": parts}]


def ask(messages, params=None, images=()):
    request = Request("", list(images), {"max_tokens": 8, **(params or {})})
    request.messages = messages
    return request


HELLO = user("Hello.")
SMALL = png(40, 40)

# name -> (request, all of these are in the error). max_model_len is 1200, max_images 3.
WRONG = {
    "prompt beyond the context": (ask(user("12345 " * 900)), ("1200", "prompt", "answer")),
    "answer beyond the context": (ask(HELLO, {"max_tokens": 1200}), ("1200", "answer")),
    "answer beyond the server's limit":
        (ask(HELLO, {"max_tokens": 99999}), ("max_tokens", "99999", "16384")),
    "more images than allowed":
        (ask(user(0, 1, 2, 3, "?"), None, [SMALL] * 4), ("image 3", "3 images")),
    "more images than a message may name":
        (ask(user(*range(65)), None, [SMALL] * 65), ("image",)),
    "an image named out of order":
        (ask(user(1, "x", 0), None, [SMALL] * 2), ("image 1", "image 0")),
    "an image not named": (ask(user("x"), None, [SMALL]), ("images", "1", "0")),
    "an image of an absurd shape": (ask(user(0), None, [png(4100, 14)]), ("image 0", "200")),
    "an image that is none": (ask(user(0), None, [b"GIF89a" + bytes(60)]), ("image 0",)),
    "an unknown role":
        (ask([{"role": "narrator", "content": "x"}]), ("narrator", "system", "user")),
    "a role too long": (ask([{"role": "u" * 33, "content": "x"}]), ("role", "32")),
    "no messages": (ask([]), ("messages", "empty")),
    "an empty prompt": (ask([{"role": "user", "content": ""}]), ("prompt is empty",)),
    "empty parts": (ask(user("", "")), ("prompt is empty",)),
    "max_tokens 0": (ask(HELLO, {"max_tokens": 0}), ("max_tokens", "1")),
    "max_tokens below 0": (ask(HELLO, {"max_tokens": -3}), ("max_tokens",)),
    "min_tokens above": (ask(HELLO, {"min_tokens": 9}), ("min_tokens", "9", "8")),
    "temperature below 0": (ask(HELLO, {"temperature": -0.5}), ("temperature", "0", "100")),
    "temperature beyond": (ask(HELLO, {"temperature": 1e9}), ("temperature", "100")),
    "temperature NaN": (ask(HELLO, {"temperature": float("nan")}), ("temperature",)),
    "temperature infinite": (ask(HELLO, {"temperature": float("inf")}), ("temperature",)),
    "temperature as text": (ask(HELLO, {"temperature": "0.5"}), ("temperature",)),
    "top_p 0": (ask(HELLO, {"top_p": 0.0}), ("top_p", "1")),
    "top_p above 1": (ask(HELLO, {"top_p": 1.5}), ("top_p", "1")),
    "top_k below 0": (ask(HELLO, {"top_k": -1}), ("top_k",)),
    "top_k as float": (ask(HELLO, {"top_k": 2.5}), ("top_k",)),
    "min_p above 1": (ask(HELLO, {"min_p": 2.0}), ("min_p", "1")),
    "repetition_penalty below": (ask(HELLO, {"repetition_penalty": 1e-9}),
                                 ("repetition_penalty", "0.001", "100")),
    "repetition_penalty beyond": (ask(HELLO, {"repetition_penalty": 1e4}),
                                  ("repetition_penalty", "100")),
    "presence_penalty beyond": (ask(HELLO, {"presence_penalty": -101.0}),
                                ("presence_penalty", "100")),
    "frequency_penalty NaN": (ask(HELLO, {"frequency_penalty": float("nan")}),
                              ("frequency_penalty",)),
    "too many stop strings": (ask(HELLO, {"stop": ["x"] * 17}), ("stop", "16")),
    "a stop string too long": (ask(HELLO, {"stop": ["x" * 257]}), ("stop", "256")),
    "an empty stop string": (ask(HELLO, {"stop": [""]}), ("stop",)),
    "too many logprobs": (ask(HELLO, {"logprobs": 21}), ("logprobs", "20")),
    "a key misspelled": (ask(HELLO, {"temprature": 1.0}), ("temprature",)),
    "ignore_eos as number": (ask(HELLO, {"ignore_eos": 1}), ("ignore_eos",)),
}


class DaemonCase(unittest.TestCase):
    bin_dir = None

    def folder(self):
        return self.enterContext(tempfile.TemporaryDirectory(prefix="facet-bad-"))

    def checkpoint(self):
        folder = self.folder()
        fixture.make(folder, 1)
        return folder

    def start(self, model, **sections):
        daemon = self.enterContext(ModelDaemon(self.bin_dir, model, **sections))
        client = Client(daemon.socket_path)
        self.addCleanup(client.close)
        wait_ready(client, daemon.num_workers, 60)
        return daemon, client

    def assert_rests(self, client):
        status = wait_idle(client, 30)
        self.assertEqual([w["deaths"] for w in status["workers"]],
                         [0] * len(status["workers"]))

    def error_of(self, request):
        """(code, message) of what was refused or ended with an error."""
        if request.done is not None:
            self.assertEqual(request.done["finish_reason"], "error", request.done)
            return request.done["code"], request.done["message"]
        self.assertEqual(request.refused["retry_after_ms"], 0, request.refused)
        return request.refused["code"], request.refused["message"]


class WrongRequests(DaemonCase):
    def test_each_is_told_and_its_neighbours_are_unchanged(self):
        goldens = Goldens("parity/hard.json")
        model = self.folder()
        goldens.make_checkpoint(model)
        _, client = self.start(model, worker="max_model_len = 1200\nmax_num_batched_tokens = 64",
                               broker="max_images = 3")
        numbers = [n for n, c in enumerate(goldens.cases)
                   if c["prompt_tokens"] + NEIGHBOUR_TOKENS <= 1200]
        random.Random(SEED).shuffle(numbers)
        neighbours = [goldens.request(n, NEIGHBOUR_TOKENS) for n in numbers[:24]]
        names = list(WRONG)
        random.Random(SEED + 1).shuffle(names)
        for neighbour in neighbours:
            client.submit(neighbour)
        # One at a time, each while a neighbour has tokens and is not done; more of them if need be.
        for name in names:
            client.poll_until(lambda: any(r.tokens and not r.finished for r in neighbours)
                              or all(r.finished for r in neighbours), 120)
            if all(r.finished for r in neighbours):
                neighbours += [client.submit(goldens.request(n, NEIGHBOUR_TOKENS))
                               for n in numbers[:8]]
            request, wanted = WRONG[name]
            client.submit(request)
            client.poll_until(lambda: request.finished, 120)
            with self.subTest(name):
                code, message = self.error_of(request)
                self.assertIn(code, ("invalid_argument", "too_large", "unsupported"), message)
                for word in wanted:
                    self.assertIn(word, message)
                self.assertEqual(request.tokens, [])
        client.poll_until(lambda: all(r.finished for r in neighbours), 200)
        self.assertEqual([p for p in map(goldens.problem, neighbours) if p], [])
        self.assert_rests(client)

    def test_text_that_is_no_utf8(self):
        _, client = self.start(self.checkpoint(), workers=1)
        request = ask(HELLO)
        request.messages = [{"role": "user", "content": "\ud800"}]
        packed = fix_utf8(request)
        client.requests[request.id] = request
        client.socket.send(packed)
        client.poll_until(lambda: request.finished, 60)
        code, message = self.error_of(request)
        self.assertEqual(code, "invalid_argument")
        self.assertIn("UTF-8", message)


def fix_utf8(request):
    """The message with a lone surrogate's bytes, which msgpack for Python would not write."""
    import msgpack
    from pool_client import generate_message
    message = generate_message(request)
    message["messages"] = [{"role": "user", "content": "MARK"}]
    return msgpack.packb(message).replace(b"\xa4MARK", b"\xa4\xed\xa0\x80!")


class NanWeights(DaemonCase):
    def test_only_who_meets_the_nan_fails(self):
        """The embedding of one token is not a number: prompts with it fail, whatever blocks and
        rows they leave behind, and prompts without it are answered as ever."""
        goldens = Goldens("qwen2_5_vl_golden.json")
        model = self.folder()
        goldens.make_checkpoint(model)
        token, word = self.unused_token(model, goldens)
        self.poison(model, token)
        # Few KV blocks, so that those of failed requests are used again at once.
        _, client = self.start(model, worker="max_model_len = 1100\nmax_lanes = 6\n"
                               "max_num_batched_tokens = 64", memory="390MB", workers=1)
        rng = random.Random(SEED)
        good = [goldens.request(n) for n in range(len(goldens.cases))]
        bad = [ask(user("x " * rng.randrange(60) + word + " y" * rng.randrange(60)))
               for _ in range(24)]
        both = good + bad
        rng.shuffle(both)
        client.run(both, in_flight=32, timeout_s=240)
        for request in bad:
            code, message = self.error_of(request)
            self.assertEqual(code, "internal")
            self.assertIn("not a finite number", message)
        self.assertEqual([p for p in map(goldens.problem, good) if p], [])
        self.assert_rests(client)

    def unused_token(self, model, goldens):
        used = set()
        for case in goldens.cases:
            used.update(case["input_ids"])
            used.update(case["output_ids"])
        with open(os.path.join(model, "tokenizer.json"), encoding="utf-8") as file:
            vocab = json.load(file)["model"]["vocab"]
        # An ASCII letter or sign that stands alone between blanks is one token.
        for char in "~^@|`}{]_Z":
            if vocab[char] not in used:
                return vocab[char], char
        self.fail("every candidate is used")

    def poison(self, model, token):
        name = "model.embed_tokens.weight"
        with open(os.path.join(model, "model.safetensors.index.json"), encoding="utf-8") as file:
            shard = os.path.join(model, json.load(file)["weight_map"][name])
        with open(shard, "r+b") as file:
            size, = struct.unpack("<Q", file.read(8))
            entry = json.loads(file.read(size))[name]
            width = entry["shape"][1]
            file.seek(8 + size + entry["data_offsets"][0] + 2 * width * token)
            file.write(np.full(width, 0x7FC0, "<u2").tobytes())


def edit(name):
    """A change of one JSON file of a checkpoint: edit("config.json")(lambda c: ...)."""
    def apply(change):
        def run(folder):
            path = os.path.join(folder, name)
            with open(path, encoding="utf-8") as file:
                value = json.load(file)
            change(value)
            with open(path, "w", encoding="utf-8") as file:
                json.dump(value, file)
        return run
    return apply


def truncate(folder):
    path = os.path.join(folder, "model-00002-of-00003.safetensors")
    os.truncate(path, os.path.getsize(path) - 100)


def header(change):
    """A change of the first shard's header; the file keeps its length where the header does."""
    def run(folder):
        path = os.path.join(folder, "model-00001-of-00003.safetensors")
        with open(path, "rb") as file:
            size, = struct.unpack("<Q", file.read(8))
            head, rest = json.loads(file.read(size)), file.read()
        change(head)
        text = json.dumps(head, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text + rest)
    return run


CONFIG = edit("config.json")
PATCHES = "visual.patch_embed.proj.weight"


def rename(folder):
    new = "visual.patch_embed.first.weight"
    header(lambda h: h.update({new: h.pop(PATCHES)}))(folder)
    edit("model.safetensors.index.json")(
        lambda i: i["weight_map"].update({new: i["weight_map"].pop(PATCHES)}))(folder)

# name -> (how to break a checkpoint, all of these are in the error)
BROKEN = {
    "another architecture": (CONFIG(lambda c: c.update(model_type="gemma3")),
                             ("model_type", "gemma3")),
    "an unknown key": (CONFIG(lambda c: c["text_config"].update(mystery_gate=3)),
                       ("text_config", "mystery_gate")),
    "an unsupported activation": (CONFIG(lambda c: c["text_config"].update(hidden_act="relu")),
                                  ("hidden_act", "relu", "silu")),
    "an unsupported rope": (CONFIG(lambda c: c["text_config"]["rope_parameters"].update(
        rope_type="yarn")), ("rope_type", "yarn")),
    "a sliding layer": (CONFIG(lambda c: c["text_config"].update(
        layer_types=["sliding_attention"] * 4)), ("layer_types", "sliding_attention")),
    "rope sections that do not fit": (CONFIG(lambda c: c["text_config"]["rope_parameters"].update(
        mrope_section=[8, 12, 13])), ("mrope_section", "64")),
    "an unknown processor key": (edit("preprocessor_config.json")(
        lambda c: c.update(do_sharpen=True)), ("do_sharpen",)),
    "another resampling": (edit("preprocessor_config.json")(lambda c: c.update(resample=2)),
                           ("resample", "2")),
    "an unknown generation key": (edit("generation_config.json")(
        lambda c: c.update(num_beams=4)), ("num_beams", "4")),
    "another tokenizer": (edit("tokenizer.json")(lambda c: c["model"].update(type="Unigram")),
                          ("Unigram",)),
    "a tokenizer flag": (edit("tokenizer.json")(lambda c: c["model"].update(dropout=0.1)),
                         ("dropout",)),
    "another chat template": (edit("chat_template.json")(
        lambda c: c.update(chat_template="[INST] {{ x }}")), ("template",)),
    "a tensor by another name": (rename, ("patch_embed.proj.weight", "patch_embed.first.weight")),
    "a tensor gone from its shard": (header(lambda h: h.pop(PATCHES)), ("hole",)),
    "a misshapen tensor": (header(lambda h: h[PATCHES].update(shape=[96, 6, 1, 14, 14])),
                           ("patch_embed.proj.weight", "96")),
    "a tensor of another type": (header(lambda h: h[PATCHES].update(dtype="I16")),
                                 ("patch_embed.proj.weight", "I16")),
    "overlapping tensors": (header(lambda h: h[PATCHES].update(data_offsets=[
        o + 2 for o in h[PATCHES]["data_offsets"]])), ("safetensors",)),
    "a truncated shard": (truncate, ("model-00002-of-00003.safetensors",)),
    "a missing shard": (lambda folder: os.unlink(
        os.path.join(folder, "model-00003-of-00003.safetensors")),
        ("model-00003-of-00003.safetensors",)),
    "no configuration": (lambda folder: os.unlink(os.path.join(folder, "config.json")),
                         ("config.json",)),
}


class BrokenCheckpoints(DaemonCase):
    def test_each_is_named(self):
        whole = self.checkpoint()
        for name, (break_it, wanted) in BROKEN.items():
            with self.subTest(name), tempfile.TemporaryDirectory(prefix="facet-bad-") as folder:
                shutil.copytree(whole, folder, dirs_exist_ok=True)
                break_it(folder)
                text = self.run_daemon(folder)
                for word in wanted:
                    self.assertIn(word, text)

    def run_daemon(self, model):
        """What facetd and its worker write, ending by themselves as for a wrong model."""
        daemon = ModelDaemon(self.bin_dir, model, workers=1)
        self.addCleanup(shutil.rmtree, daemon.folder)
        done = subprocess.run(
            [os.path.join(self.bin_dir, "facetd"), "--config", daemon.config],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        text = (done.stdout + done.stderr).decode() + daemon.log_tail()
        self.assertEqual(done.returncode, EXIT_BAD_MODEL, text)
        return text


if __name__ == "__main__":
    DaemonCase.bin_dir = sys.argv.pop(1)
    print(f"seed {SEED} (FACET_SEED)", flush=True)
    unittest.main(verbosity=2)
