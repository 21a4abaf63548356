"""Trains the demo model on one GPU, in runs that can be stopped and resumed.

    python scripts/train_demo_model.py --state S --out M --minutes 9 --total-minutes 18
    python scripts/train_demo_model.py --state S --out M --minutes 10 --total-minutes 18 --resume S

The learning rate follows the share of --total-minutes that has been trained, so that a faster
GPU sees more samples and the schedule always ends. --state holds what --resume needs: fp32
weights and bf16 moments in parts of less than 16 MB. --out holds the Hugging Face directory.
"""

import argparse
import json
import math
import multiprocessing
import os
import shutil
import sys
import time

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from demo_model import draw, export, loader
from demo_model.model import DemoModel

PEAK, WARMUP, FLAT, FLOOR = 6e-4, 600, 0.3, 0.01
PART_BYTES = 15_000_000


def rate(step, share):
    if step < WARMUP:
        return PEAK * (step + 1) / WARMUP
    if share < FLAT:
        return PEAK
    way = min(1.0, (share - FLAT) / (1 - FLAT))
    return PEAK * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * way)))


def save_state(directory, model, optimiser, info):
    """Written beside and swapped in, so that a stop in the middle leaves the old state."""
    fresh = directory + ".new"
    shutil.rmtree(fresh, ignore_errors=True)
    os.makedirs(fresh)
    tensors = {}
    for name, p in model.named_parameters():
        tensors["weight/" + name] = p.detach().cpu().contiguous()
        for key in ("exp_avg", "exp_avg_sq"):
            moment = optimiser.state[p][key] if p in optimiser.state else torch.zeros_like(p)
            tensors[f"{key}/{name}"] = moment.detach().to(torch.bfloat16).cpu().contiguous()
    parts, size = [{}], 0
    for name, tensor in tensors.items():
        if size + tensor.nbytes > PART_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = tensor
        size += tensor.nbytes
    for i, part in enumerate(parts):
        save_file(part, os.path.join(fresh, f"state-{i}.safetensors"))
    with open(os.path.join(fresh, "state.json"), "w", encoding="utf-8") as file:
        json.dump(info, file)
    shutil.rmtree(directory, ignore_errors=True)
    os.rename(fresh, directory)


def load_state(directory, model, optimiser):
    with open(os.path.join(directory, "state.json"), encoding="utf-8") as file:
        info = json.load(file)
    tensors = {}
    for name in sorted(os.listdir(directory)):
        if name.endswith(".safetensors"):
            tensors.update(load_file(os.path.join(directory, name)))
    for name, p in model.named_parameters():
        p.data.copy_(tensors["weight/" + name])
        optimiser.state[p] = {
            "step": torch.tensor(float(info["step"]), device=p.device),
            **{k: tensors[f"{k}/{name}"].to(p.device, torch.float32)
               for k in ("exp_avg", "exp_avg_sq")}}
    return info


def _draw_eval(job):
    task, seed, start, count = job
    images = 2 if task == "same" else 1
    memory = bytearray(loader.slot_bytes())
    batch, _ = loader.views(memory, 0, images, count)
    for row in range(count):
        loader.put(batch, row, draw.draw_sample(task, "eval", seed, start + row))
    return task, {k: v.copy() for k, v in batch.items()}


def draw_eval(seed, count, processes):
    """{task: [batches of at most 64]}; drawn before CUDA starts, since the drawers fork."""
    jobs = [(task, seed, start, min(64, count - start))
            for task in draw.TASKS for start in range(0, count, 64)]
    out = {task: [] for task in draw.TASKS}
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for task, batch in pool.imap(_draw_eval, jobs):
            out[task].append(batch)
    return out


def evaluate(model, batches, device):
    """Exact match by task. Greedy decoding is right iff every forced step is right."""
    result = {}
    with torch.no_grad():
        for task, parts in batches.items():
            right = total = 0
            for part in parts:
                tensors = {k: torch.from_numpy(v).to(device) for k, v in part.items()}
                ok = model.loss(**tensors)[1]
                right += int(ok.sum())
                total += ok.numel()
            result[task] = round(100 * right / total, 2)
    result["overall"] = round(sum(result.values()) / len(result), 2)
    return result


def rounded(model, device):
    """The model as it is served: weights rounded to bf16, arithmetic in fp32."""
    copy = DemoModel().to(device)
    copy.load_state_dict({k: v.to(torch.bfloat16).float() for k, v in model.state_dict().items()})
    return copy.eval()


def to_device(batch, device):
    return {k: torch.from_numpy(v).to(device, non_blocking=True) for k, v in batch.items()}


def pin(memory):
    """Page-locks the drawers' memory, which makes copies to the GPU fast; optional."""
    address = np.frombuffer(memory, np.uint8).ctypes.data
    error = torch.cuda.cudart().cudaHostRegister(address, len(memory), 0)
    print("pinned" if int(error) == 0 else f"not pinned: {error}", flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", required=True, help="directory of the resumable state")
    parser.add_argument("--out", required=True, help="directory of the exported model")
    parser.add_argument("--resume", help="state directory to go on from")
    parser.add_argument("--minutes", type=float, required=True, help="length of this run")
    parser.add_argument("--total-minutes", type=float, required=True, help="of all runs together")
    parser.add_argument("--steps", type=int, default=10 ** 9, help="stop after so many (tests)")
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--eval-count", type=int, default=256, help="samples a task while training")
    parser.add_argument("--final-count", type=int, default=1024, help="samples a task at the end")
    parser.add_argument("--batch", type=int, help="pictures in a batch (tests)")
    return parser.parse_args()


def main():
    args = parse()
    began = time.monotonic()
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    if args.batch:
        loader.BATCH_IMAGES = args.batch
    first = 0
    if args.resume:
        with open(os.path.join(args.resume, "state.json"), encoding="utf-8") as file:
            first = json.load(file)["step"]
    quick = draw_eval(args.seed + 1, args.eval_count, args.workers)
    final = draw_eval(args.seed + 2, args.final_count, args.workers)
    print(f"evaluation drawn after {time.monotonic() - began:.1f} s", flush=True)
    source = loader.Loader(first, args.seed, args.workers)
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    model = DemoModel().to(device)
    groups = [{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.05},
              {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.95), fused=cuda)
    info = {"step": 0, "samples": 0, "seconds": 0.0}
    if args.resume:
        info = load_state(args.resume, model, optimiser)
        print(f"resumed at step {info['step']}, {info['seconds'] / 60:.1f} min", flush=True)
    loss_of = torch.compile(model.loss, dynamic=False) if cuda else model.loss
    if cuda:
        pin(source.memory)
    train(args, model, optimiser, loss_of, source, info, quick, device, began)
    source.close()
    save_state(args.state, model, optimiser, info)
    export.export(model, args.out)
    scores = evaluate(rounded(model, device), final, device)
    print(json.dumps({"final": scores, "count_per_task": args.final_count, **info,
                      "minutes": round(info["seconds"] / 60, 2)}), flush=True)


def train(args, model, optimiser, loss_of, source, info, quick, device, began):
    before, start_step = info["seconds"], info["step"]
    waited, told, saved = 0.0, time.monotonic(), time.monotonic()
    told_step, pending, running = start_step, [], None
    skipped = torch.zeros((), device=device)
    while info["step"] - start_step < args.steps:
        now = time.monotonic()
        if now - began > args.minutes * 60 or \
                before + now - began > args.total_minutes * 60:
            break
        share = (before + now - began) / (args.total_minutes * 60)
        for group in optimiser.param_groups:
            group["lr"] = rate(info["step"], share)
        step, host = source.next()
        waited += time.monotonic() - now
        batch = to_device(host, device)
        copied = torch.cuda.Event() if device.type == "cuda" else None
        if copied:
            copied.record()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss, right = loss_of(**batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        bad = ~torch.isfinite(norm)
        optimiser.found_inf = bad.float()  # the fused step leaves everything as it is then
        skipped += bad
        optimiser.step()
        # A batch's memory goes back to its drawer once the copy is over, one step later.
        pending.append(copied)
        if len(pending) > 1:
            oldest = pending.pop(0)
            if oldest:
                oldest.synchronize()
            source.release()
        info["step"] = step + 1
        info["samples"] += len(host["ids"])
        value = torch.nan_to_num(loss.detach(), nan=9.0)
        running = value if running is None else running * 0.95 + value * 0.05
        if info["step"] % 100 == 0 or info["step"] - start_step in (1, 5, 20):
            value = float(running)
            now = time.monotonic()
            print(f"step {info['step']} loss {value:.4f} norm {float(norm):.2f} "
                  f"lr {optimiser.param_groups[0]['lr']:.2e} "
                  f"{(info['step'] - told_step) / (now - told):.1f} steps/s waited {waited:.1f} s "
                  f"at {(before + now - began) / 60:.2f} min skipped {int(skipped)}", flush=True)
            told, told_step = now, info["step"]
            if int(skipped) > 50:
                sys.exit("gradients are not finite; nothing was saved over the last good state")
            skipped.zero_()
        info["seconds"] = before + time.monotonic() - began
        if time.monotonic() - saved > 110:
            save_state(args.state, model, optimiser, info)
            export.export(model, args.out)
            model.eval()
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                scores = evaluate(model, quick, device)
            model.train()
            print(json.dumps({"minutes": round(info["seconds"] / 60, 2),
                              "samples": info["samples"], **scores}), flush=True)
            saved = time.monotonic()


if __name__ == "__main__":
    main()
