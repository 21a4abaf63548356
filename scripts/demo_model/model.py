"""The demo model as it is trained: Qwen2.5-VL's arithmetic, shaped for training speed.

Attention windows are folded into the batch, pictures are cut into patches in window order
straight away, and the two equal frames of a still picture are summed into one. Parameters
carry the published checkpoint names, so saving is a copy. check_export.py proves that a saved
checkpoint gives the same logits in transformers.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from . import text
from .hf_files import MEAN, STD


@dataclass(frozen=True)
class Config:
    vocab: int = 288  # 256 bytes, 14 added tokens, room to a multiple of 32
    width: int = 224
    layers: int = 6
    heads: int = 7
    kv_heads: int = 1
    head: int = 32
    mlp: int = 640
    rope_theta: float = 10000.0
    mrope: tuple = (4, 6, 6)
    eps: float = 1e-6
    v_width: int = 160
    v_layers: int = 6
    v_heads: int = 5
    v_mlp: int = 432
    v_full: tuple = (2, 5)
    patch: int = 14
    grid: int = 16  # patches on each side of a 224x224 picture
    window: int = 112


class RMSNorm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return y.to(x.dtype) * self.weight


def rotate(x, cos, sin):
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


class VisionAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c.v_heads
        self.qkv = nn.Linear(c.v_width, 3 * c.v_width)
        self.proj = nn.Linear(c.v_width, c.v_width)

    def forward(self, x, cos, sin, windows):
        b, n, d = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = rotate(qkv[0], cos, sin), rotate(qkv[1], cos, sin), qkv[2]
        if windows > 1:  # [b, heads, windows * m, hd] -> [b * windows, heads, m, hd]
            q, k, v = (t.reshape(b, self.heads, windows, n // windows, -1).transpose(1, 2)
                       .reshape(b * windows, self.heads, n // windows, -1) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v)
        if windows > 1:
            y = y.view(b, windows, self.heads, n // windows, -1).transpose(1, 2)
            y = y.reshape(b, self.heads, n, -1)
        return self.proj(y.transpose(1, 2).reshape(b, n, d))


class MLP(nn.Module):
    def __init__(self, n, hidden, bias):
        super().__init__()
        self.gate_proj = nn.Linear(n, hidden, bias=bias)
        self.up_proj = nn.Linear(n, hidden, bias=bias)
        self.down_proj = nn.Linear(hidden, n, bias=bias)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class VisionBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(c.v_width, c.eps), RMSNorm(c.v_width, c.eps)
        self.attn = VisionAttention(c)
        self.mlp = MLP(c.v_width, c.v_mlp, True)

    def forward(self, x, cos, sin, windows):
        x = x + self.attn(self.norm1(x), cos, sin, windows)
        return x + self.mlp(self.norm2(x))


class Merger(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ln_q = RMSNorm(c.v_width, c.eps)
        self.mlp = nn.Sequential(nn.Linear(4 * c.v_width, 4 * c.v_width), nn.GELU(),
                                 nn.Linear(4 * c.v_width, c.width))

    def forward(self, x):
        return self.mlp(self.ln_q(x).reshape(x.shape[0], x.shape[1] // 4, -1))


class PatchEmbed(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.proj = nn.Conv3d(3, c.v_width, (2, c.patch, c.patch), bias=False)

    def forward(self, patches):  # [b, n, 3 * patch * patch]: both frames are the same picture
        return F.linear(patches, self.proj.weight.sum(2).flatten(1))


class Vision(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.patch_embed = PatchEmbed(c)
        self.blocks = nn.ModuleList(VisionBlock(c) for _ in range(c.v_layers))
        self.merger = Merger(c)
        side = c.window // c.patch  # patches on a side of a window
        self.windows_side = c.grid // side
        rows, cols = torch.meshgrid(torch.arange(c.grid), torch.arange(c.grid), indexing="ij")
        angles = []
        head = c.v_width // c.v_heads
        inv = 1.0 / (10000.0 ** (torch.arange(0, head // 2, 2).float() / (head // 2)))
        for at in (rows, cols):
            at = self._window_order(at[None, None].float()[..., None, None])
            angles.append(at.reshape(-1, 1) * inv)
        angles = torch.cat(angles, dim=1)  # [patches, head / 2]
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1) * 255, persistent=False)

    def _window_order(self, x):
        """[b, ch, grid, grid, p, q] -> [b, grid * grid, ch * p * q], windows first, then 2x2."""
        b, ch, _, _, p, q = x.shape
        w = self.windows_side
        m = self.c.grid // w // 2
        x = x.reshape(b, ch, w, m, 2, w, m, 2, p, q)
        return x.permute(0, 2, 5, 3, 6, 4, 7, 1, 8, 9).reshape(b, -1, ch * p * q)

    def forward(self, pixels):  # uint8 [b, side, side, 3]
        c = self.c
        x = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std
        x = x.reshape(-1, 3, c.grid, c.patch, c.grid, c.patch).transpose(3, 4)
        x = self.patch_embed(self._window_order(x))
        w = self.windows_side
        for i, block in enumerate(self.blocks):
            x = block(x, self.cos, self.sin, 1 if i in c.v_full else w * w)
        x = self.merger(x)
        b, m = x.shape[0], c.grid // 2 // w
        x = x.view(b, w, w, m, m, -1).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(b, (c.grid // 2) ** 2, -1)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.q_proj = nn.Linear(c.width, c.heads * c.head)
        self.k_proj = nn.Linear(c.width, c.kv_heads * c.head)
        self.v_proj = nn.Linear(c.width, c.kv_heads * c.head)
        self.o_proj = nn.Linear(c.heads * c.head, c.width, bias=False)

    def forward(self, x, cos, sin):
        c, (b, n, _) = self.c, x.shape
        q = rotate(self.q_proj(x).view(b, n, c.heads, c.head).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(b, n, c.kv_heads, c.head).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(b, n, c.kv_heads, c.head).transpose(1, 2)
        k, v = (t.repeat_interleave(c.heads // c.kv_heads, dim=1) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, n, -1))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm = RMSNorm(c.width, c.eps)
        self.post_attention_layernorm = RMSNorm(c.width, c.eps)
        self.self_attn = Attention(c)
        self.mlp = MLP(c.width, c.mlp, False)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Language(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab, c.width)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.width, c.eps)


class DemoModel(nn.Module):
    def __init__(self, c=None):
        super().__init__()
        self.c = c = c or Config()
        self.visual = Vision(c)
        self.model = Language(c)
        inv = 1.0 / (c.rope_theta ** (torch.arange(0, c.head, 2).float() / c.head))
        axis = torch.tensor([i for i, n in enumerate(c.mrope) for _ in range(n)])
        # one row for each of time, height, width; a frequency belongs to exactly one of them
        self.register_buffer("inv", F.one_hot(axis, 3).T.float() * inv, persistent=False)
        self._start()

    def _start(self):
        c = self.c
        for name, p in self.named_parameters():
            if p.dim() == 1:
                if name.endswith("bias"):
                    nn.init.zeros_(p)
                continue
            std = 0.03
            if name.endswith(("o_proj.weight", "attn.proj.weight", "down_proj.weight")):
                layers = c.v_layers if name.startswith("visual") else c.layers
                std = 0.04 / math.sqrt(2 * layers)
            elif "embed" in name:
                std = 0.02
            nn.init.normal_(p, 0.0, std)

    def hidden(self, pixels, ids, positions, cells):
        b = ids.shape[0]
        picture = self.visual(pixels)
        picture = picture.reshape(b, -1, picture.shape[-1])
        x = self.model.embed_tokens(ids.long())
        at = cells.long().clamp(min=0).unsqueeze(-1).expand(-1, -1, x.shape[-1])
        x = torch.where((cells >= 0).unsqueeze(-1), picture.to(x.dtype).gather(1, at), x)
        angles = (positions.float().transpose(1, 2) @ self.inv).unsqueeze(1)
        cos, sin = angles.cos(), angles.sin()
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return x

    def forward(self, pixels, ids, positions, cells, answer_at):
        """Logits [samples, ANSWER_MAX, vocab] at the places that predict the answer."""
        x = self.hidden(pixels, ids, positions, cells)
        at = answer_at.long().unsqueeze(-1).expand(-1, -1, x.shape[-1])
        x = self.model.norm(x.gather(1, at))
        return F.linear(x, self.model.embed_tokens.weight)

    def loss(self, pixels, ids, positions, cells, answer_at, labels):
        logits = self(pixels, ids, positions, cells, answer_at).float()
        labels = labels.long()
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-1)
        right = ((logits.argmax(-1) == labels) | (labels < 0)).all(-1)
        return loss, right


assert Config().vocab >= 256 + len(text.SPECIALS)
