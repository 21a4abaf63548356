"""Training batches drawn by many processes into one shared mapping.

Worker w draws the steps w, w+W, w+2W, ... into its own slots in turn, so that two semaphores
a worker are all the synchronisation there is and the order of batches is fixed.
"""

import mmap
import multiprocessing
import os

import numpy as np

from . import draw, text

BATCH_IMAGES = 512
PAIRS_EVERY = 5  # every fifth batch holds pairs of pictures
TASK_WEIGHTS = {"attribute": 17, "place": 10, "count": 20, "number": 27, "word": 20, "bars": 6}
_TASK_TABLE = [t for t, n in TASK_WEIGHTS.items() for _ in range(n)]


def images_of_step(step):
    return 2 if step % PAIRS_EVERY == PAIRS_EVERY - 1 else 1


def fields(images, samples):
    """(name, shape, dtype) of what a batch holds."""
    n = text.LENGTHS[images]
    return (
        ("pixels", (samples * images, draw.SIDE, draw.SIDE, 3), np.uint8),
        ("ids", (samples, n), np.int16),
        ("positions", (samples, 3, n), np.int16),
        ("cells", (samples, n), np.int16),
        ("answer_at", (samples, text.ANSWER_MAX), np.int16),
        ("labels", (samples, text.ANSWER_MAX), np.int16),
    )


def views(buffer, offset, images, samples):
    out = {}
    for name, shape, dtype in fields(images, samples):
        count = int(np.prod(shape))
        out[name] = np.frombuffer(buffer, dtype, count, offset).reshape(shape)
        offset += count * np.dtype(dtype).itemsize
    return out, offset


def slot_bytes():
    probe = np.dtype(np.int16).itemsize
    most = 0
    for images in (1, 2):
        size = sum(int(np.prod(s)) * np.dtype(d).itemsize
                   for _, s, d in fields(images, BATCH_IMAGES // images))
        most = max(most, size)
    return (most + 4095 + probe) // 4096 * 4096


def put(batch, row, sample, text_first=False):
    """Writes one sample into row `row` of the batch's arrays."""
    images = len(sample.images)
    prompt = text.prompt_ids(sample.question, images, text_first)
    answer = text.encode(sample.answer) + [text.IM_END]
    ids = prompt + answer[:-1]  # the end mark is a label only
    rows, cells = text.layout(ids)
    n = len(ids)
    for i, pixels in enumerate(sample.images):
        batch["pixels"][row * images + i] = pixels
    batch["ids"][row] = text.ENDOFTEXT
    batch["ids"][row, :n] = ids
    batch["positions"][row] = 0
    batch["positions"][row, :, :n] = rows
    batch["cells"][row] = -1
    batch["cells"][row, :n] = cells
    batch["answer_at"][row] = 0
    batch["labels"][row] = -1
    batch["answer_at"][row, :len(answer)] = np.arange(len(prompt) - 1, n)
    batch["labels"][row, :len(answer)] = answer


def fill(batch, step, seed):
    images = images_of_step(step)
    samples = BATCH_IMAGES // images
    rng = draw.sample_rng("mix", seed, step)
    for row in range(samples):
        task = "same" if images == 2 else rng.choice(_TASK_TABLE)
        sample = draw.draw_sample(task, "train", seed, step * BATCH_IMAGES + row)
        put(batch, row, sample, rng.random() < 0.1)


class Loader:
    """Iterates over (step, slot views); call `release()` once the batch has been copied."""

    def __init__(self, first_step, seed, workers, slots=3):
        self.workers, self.slots, self.step = workers, slots, first_step
        self.slot_bytes = slot_bytes()
        self.memory = mmap.mmap(-1, workers * slots * self.slot_bytes)
        context = multiprocessing.get_context("fork")
        self.free = [context.Semaphore(slots) for _ in range(workers)]
        self.ready = [context.Semaphore(0) for _ in range(workers)]
        self.processes = [
            context.Process(target=self._work, args=(w, first_step, seed), daemon=True)
            for w in range(workers)]
        for process in self.processes:
            process.start()
        self.first_step, self.to_release = first_step, first_step

    def _place(self, step):
        turn, worker = divmod(step - self.first_step, self.workers)
        return worker, (worker * self.slots + turn % self.slots) * self.slot_bytes

    def _work(self, worker, first_step, seed):
        os.nice(5)
        self.first_step = first_step
        step = first_step + worker
        while True:
            self.free[worker].acquire()
            _, offset = self._place(step)
            images = images_of_step(step)
            batch, _ = views(self.memory, offset, images, BATCH_IMAGES // images)
            fill(batch, step, seed)
            self.ready[worker].release()
            step += self.workers

    def next(self):
        step = self.step
        worker, offset = self._place(step)
        while not self.ready[worker].acquire(timeout=60):
            if not self.processes[worker].is_alive():
                raise RuntimeError(f"drawing process {worker} ended")
        self.step += 1
        images = images_of_step(step)
        return step, views(self.memory, offset, images, BATCH_IMAGES // images)[0]

    def release(self):
        """The oldest batch not yet released may be overwritten."""
        worker, _ = self._place(self.to_release)
        self.free[worker].release()
        self.to_release += 1

    def close(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()
