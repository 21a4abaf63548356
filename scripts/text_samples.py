"""Random text that is hard on tokenizers, and small tokenizers of the kinds Facet serves."""
import json
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")

WORDS = (
    "the image shows a red circle left of two blue squares and one small green "
    "triangle how many bars are higher which number word is written here answer yes "
    "no same different don't I'LL we've it's they're you'd naïve café Straße über "
    "été señor Привет мир данные γειά κόσμε שלום مرحبا नमस्ते 你好 世界 图像 こんにちは 안녕하세요 "
    "สวัสดี việt nam def return int main std::vector<int> for (i=0; i<n; ++i) "
    "{x+=1;} https://example.org/a?b=c#d 3.14159 2026-01-31 0x1F4A9 a_b_c camelCase "
    "SCREAMING_CASE e.g. i.e. ... -- — “quoted” 'single'").split(" ")
ODD = ["\u180e", "\x85", "\u3000", "\u00a0", "\u2028", "\u2029", "\u200b", "\u200d", "\ufeff",
       "\x00", "\x1f", "\x7f", "\u0301", "\u0323", "\u0327", "e\u0301", "\u212b",
       "\u1100\u1161\u11a8", "\uac00\u11a8", "\u0344", "\u0958", "\ufb01", "\u1e9b\u0323",
       "\u017f", "'\u017f", "'S", "'Ll", "\u212a", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
       "\U0001f1e9\U0001f1ea", "\u00bd", "\u2167", "\u0e33", "\U00011935\U00011930", "\u0899",
       "\u09fe", "\U000105c0", "\U00031350", "\u0897", "\U00010d40", "\U0001e030", "\u1c89",
       "\ufffd", "\U0010ffff", "\ue000", "\u0f73"]

# First code points of blocks to draw from.
SCRIPTS = [0xa0, 0x300, 0x370, 0x400, 0x590, 0x600, 0x900, 0xe00, 0x1100, 0x1e00, 0x2000, 0x3040,
           0x4e00, 0xac00, 0x1f300, 0x10d40, 0x11380, 0x1e4d0]


def corpus(rng, lines=4000):
    for _ in range(lines):
        yield " ".join(rng.choice(WORDS) for _ in range(rng.randrange(3, 20))) + "\n"


def random_text(rng, added, max_pieces=24):
    """A few pieces of every kind, glued with and without blanks."""
    out = []
    for _ in range(rng.randrange(1, max_pieces)):
        kind = rng.randrange(12)
        if kind < 3:
            out.append(rng.choice(["", " ", " "]) + rng.choice(WORDS))
        elif kind == 3:
            out.append(rng.choice([" ", "\n", "\r\n", "\t", "  \n"]) * rng.randrange(1, 6))
        elif kind == 4:
            out.append("".join(rng.choice("0123456789") for _ in range(rng.randrange(1, 9))))
        elif kind == 5:
            out.append(rng.choice(ODD))
        elif kind == 6 and added:
            out.append(rng.choice(["", " ", "\n"]) + rng.choice(added) + rng.choice(["", " ", "a"]))
        elif kind == 7 and added:
            token = rng.choice(added)
            out.append(token[:rng.randrange(1, len(token) + 1)])
        elif kind == 8:
            out.append("".join(chr(rng.randrange(0x20, 0x7f)) for _ in range(rng.randrange(1, 12))))
        elif kind == 9:
            base = rng.choice(SCRIPTS)
            out.append("".join(chr(base + rng.randrange(0x80)) for _ in range(rng.randrange(1, 8))))
        elif kind == 10:
            point = rng.randrange(0x110000)
            out.append(chr(point if not 0xd800 <= point < 0xe000 else point - 0x800))
        else:
            out.append(rng.choice("ab'.,!?-_#(){}") * rng.randrange(1, 5))
    return "".join(out)


def _train(pre_tokenizer, normalizer, ignore_merges, vocab_size, rng):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(rng), trainer)
    return tokenizer


def _split(pattern, **byte_level):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False, **byte_level)])


def make_qwen2(seed=1, vocab_size=700):
    tokenizer = _train(_split(QWEN2), normalizers.NFC(), False, vocab_size, random.Random(seed))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
               "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("<tool_call>", "</tool_call>")])
    return tokenizer


def make_llama3(seed=2, vocab_size=700):
    tokenizer = _train(_split(LLAMA3), None, True, vocab_size, random.Random(seed))
    # Words that no merge can reach: only ignore_merges finds them.
    model = json.loads(tokenizer.to_str())
    vocab = model["model"]["vocab"]
    for word in ("Ġtriangle", "Ġsquares", "sameĠ", "Ġzebra", "quokka", "777", "Ġ", "ĊĊĊ"):
        vocab.setdefault(word, len(vocab))
    model["model"]["merges"] = [" ".join(m) if not any(" " in x for x in m) else m
                                for m in model["model"]["merges"]]  # the older spelling
    tokenizer = Tokenizer.from_str(json.dumps(model))
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|image|>"]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A",
                                      special_tokens=[("<|begin_of_text|>", begin)])])
    return tokenizer, model["model"]["merges"]


def make_odd(seed=3, vocab_size=500):
    """Every flag of added tokens, a literal Split, ByteLevel's own expression with prefix space."""
    steps = pre_tokenizers.Sequence([
        pre_tokenizers.Split("#", "merged_with_previous"),
        pre_tokenizers.Split(Regex(r"\p{N}{2}"), "merged_with_next"),
        pre_tokenizers.Split(Regex(r"[!?]"), "contiguous"),
        pre_tokenizers.Split(Regex(r"~+"), "removed"),
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)])
    tokenizer = _train(steps, normalizers.Sequence([normalizers.NFC()]), False, vocab_size,
                       random.Random(seed))
    tokenizer.add_special_tokens([
        AddedToken("<l>", special=True, normalized=False, lstrip=True),
        AddedToken("<r>", special=True, normalized=False, rstrip=True),
        AddedToken("<b>", special=True, normalized=False, lstrip=True, rstrip=True)])
    tokenizer.add_tokens([
        AddedToken("word", single_word=True), AddedToken("caf\u00e9"), AddedToken("e\u0301t"),
        AddedToken("<l><r>", normalized=False), AddedToken(" gap ", normalized=True),
        AddedToken("wide", lstrip=True, rstrip=True, single_word=True), AddedToken("\u00c5ng"),
        AddedToken("\n\n", normalized=False, rstrip=True), AddedToken("red", normalized=True)])
    return tokenizer


FLAGGED = ("<a>", "</a>", "[TOOL]", "red", "circle", " two", "\u00e9t\u00e9", "e\u0301", "\u212b",
           "3.1", "\n\n", "\t", "don't", "\u4f60", "\U0001f468", "_", "<a", "a>b",
           "\u1100\u1161", "ING", "#")


def add_flagged(tokenizer, rng):
    """The tokenizer with some added tokens more, of random flags: whole words, parts of words,
    blanks, what NFC changes, and beginnings of each other."""
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    for content in rng.sample(FLAGGED, 12):
        flags = {name: rng.random() < 0.4 for name in ("lstrip", "rstrip", "single_word",
                                                       "normalized")}
        special = rng.random() < 0.4
        token = AddedToken(content, special=special, **flags)
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([token])
    return tokenizer


def save_flagged(folder, seed):
    """As save_all(): the kinds of Qwen2 and Llama 3 with random added tokens."""
    rng, result = random.Random(seed), {}
    for kind, tokenizer in (("qwen2", make_qwen2()), ("llama3", make_llama3()[0])):
        flagged = add_flagged(tokenizer, rng)
        path = f"{folder}/{kind}_flags_{seed}.json"
        flagged.save(path)
        added = [t["content"] for t in json.loads(flagged.to_str())["added_tokens"]]
        result[f"{kind}_flags_{seed}"] = (Tokenizer.from_file(path), added)
    return result


def save_all(folder):
    """Writes qwen2.json, llama3.json and odd.json; returns {kind: (Tokenizer, added tokens)}."""
    qwen2, odd = make_qwen2(), make_odd()
    llama3, old_merges = make_llama3()
    texts = {"qwen2": qwen2.to_str(), "odd": odd.to_str()}
    spelled = json.loads(llama3.to_str())
    spelled["model"]["merges"] = old_merges
    texts["llama3"] = json.dumps(spelled, ensure_ascii=False, separators=(",", ":"))
    result = {}
    for kind, text in texts.items():
        data = json.loads(text)
        with open(f"{folder}/{kind}.json", "w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False, separators=(",", ":"))
        result[kind] = (Tokenizer.from_file(f"{folder}/{kind}.json"),
                        [t["content"] for t in data["added_tokens"]])
    return result
