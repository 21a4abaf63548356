"""Pictures, questions and answers for the demo model.

Everything is a function of (split, seed, index, task): the same four values draw the same
sample again, and two splits never share a sample. Pictures are 224x224 RGB.
"""

import hashlib
import io
import math
import os
import random
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 224
TASKS = ("attribute", "place", "count", "number", "word", "bars", "same")

COLOURS = {
    "red": (215, 35, 40), "green": (40, 160, 60), "blue": (40, 80, 220),
    "yellow": (240, 220, 50), "orange": (245, 135, 25), "purple": (140, 55, 170),
    "black": (18, 18, 18), "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "star": "stars",
           "cross": "crosses", "ring": "rings"}
SMALL, LARGE = (14, 26), (46, 72)  # radii in pixels; the gap keeps the answer unambiguous
WORDS = (
    "apple bird boat book bread bridge camera chair city cloud coffee desk dog door dream eagle "
    "east fire fish flower forest garden glass gold green hand honey horse house island jacket "
    "king lamp leaf lemon light moon music night north ocean orange paper peach piano queen rain "
    "river road rock salt school ship silver snow south spring stone sugar summer sun table tiger "
    "train tree violin water west wind window winter wolf zebra"
).split()
FACES = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSansMono",
    "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique",
)

QUESTIONS = {
    "colour": ("What colour is the {s}?", "What colour is the shape?", "What color is the {s}?",
               "What color is the shape?", "What colour is it?", "Which colour is the {s}?",
               "What is the colour of the {s}?", "Name the colour of the shape.",
               "Which colour does the shape have?"),
    "shape": ("What shape is this?", "What shape is it?", "Which shape is this?",
              "What shape do you see?", "What is the shape?", "Name the shape.",
              "Which shape is shown?"),
    "size": ("What size is the shape?", "Is the {s} small or large?",
             "Is the shape small or large?", "How big is the {s}?", "How large is the shape?",
             "What size is the {s}?", "Is it small or large?"),
    "place": ("Where is the {s}?", "Where is the shape?", "Where is it?",
              "In which part is the {s}?", "Where do you see the {s}?", "Where is the {s} placed?",
              "Which part of the picture is it in?"),
    "count": ("How many {p} are there?", "How many {p} do you see?", "Count the {p}.",
              "How many {p} are in the picture?", "What is the number of {p}?",
              "How many {p} can you see?"),
    "number": ("What number is written?", "What number is this?", "Which number is written?",
               "Read the number.", "What number do you see?", "What is the number?",
               "Which number is shown?", "What number is shown here?"),
    "word": ("What word is written?", "What word is this?", "Which word is written?",
             "Read the word.", "What word do you see?", "What is the word?",
             "Which word is shown?", "What word is written here?"),
    "bars": ("Which bar is higher?", "Which bar is taller?", "Which of the two bars is higher?",
             "Is the left or the right bar higher?", "Which bar is the higher one?",
             "Which side has the higher bar?", "Which bar is bigger?"),
    "same": ("Are these two pictures the same?", "Are the two pictures the same?",
             "Do these pictures show the same?", "Are both pictures the same?",
             "Are these two images the same?", "Are they the same?",
             "Is the second picture the same?"),
}


@dataclass
class Sample:
    task: str
    question: str
    answer: str
    images: list = field(default_factory=list)  # uint8 arrays [224, 224, 3]


@dataclass(frozen=True)
class Shape:
    kind: str
    x: float
    y: float
    r: float
    colour: str
    rgb: tuple
    angle: float


@dataclass(frozen=True)
class Scene:
    ground: tuple
    shapes: tuple = ()
    text: str = ""
    face: str = ""
    px: int = 0
    at: tuple = (0.5, 0.5)
    angle: float = 0.0
    ink: tuple = (0, 0, 0)
    fine: bool = False  # drawn at twice the size and reduced, so that edges are smooth


def sample_rng(split, seed, index):
    """A generator of its own for each sample, independent of drawing order."""
    digest = hashlib.blake2b(f"{split}/{seed}/{index}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "little"))


def _font_dir():
    for path in ("/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/dejavu"):
        if os.path.exists(os.path.join(path, FACES[0] + ".ttf")):
            return path
    import matplotlib  # its wheel carries the same DejaVu files

    return os.path.join(os.path.dirname(matplotlib.__file__), "mpl-data", "fonts", "ttf")


_fonts = {}


def _font(face, px):
    key = (face, px)
    if key not in _fonts:
        directory = _fonts.setdefault("dir", None) or _font_dir()
        _fonts["dir"] = directory
        path = os.path.join(directory, face + ".ttf")
        if not os.path.exists(path):
            raise FileNotFoundError(f"{path}: install the DejaVu fonts (fonts-dejavu-core, "
                                    "fonts-dejavu-extra) or matplotlib")
        _fonts[key] = ImageFont.truetype(path, px)
    return _fonts[key]


_noise = {}


def _noise_field(rng, sigma):
    """A window of a fixed pool of Gaussian noise: drawing 150,000 normals each time is slow."""
    if sigma not in _noise:
        pool = np.random.default_rng(7 + sigma).standard_normal(400_000) * sigma
        _noise[sigma] = np.clip(np.rint(pool), -60, 60).astype(np.int16)
    start = rng.randrange(400_000 - SIDE * SIDE * 3)
    return _noise[sigma][start:start + SIDE * SIDE * 3].reshape(SIDE, SIDE, 3)


def _distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))


def _jitter(rng, rgb, by=16):
    return tuple(max(0, min(255, c + rng.randint(-by, by))) for c in rgb)


def _ground(rng):
    if rng.random() < 0.6:
        base = rng.randint(205, 255)
        return _jitter(rng, (base, base, base), 20)
    base = rng.randint(0, 70)
    return _jitter(rng, (base, base, base), 20)


def _ground_for(rng, colours, least=105):
    while True:
        ground = _ground(rng)
        if all(_distance(ground, c) >= least for c in colours):
            return ground


def _colour(rng):
    name = rng.choice(tuple(COLOURS))
    return name, _jitter(rng, COLOURS[name])


def _ink(rng, ground, least=140):
    while True:
        ink = (rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255))
        if _distance(ground, ink) >= least:
            return ink


def _polygon(kind):
    if kind == "square":
        return [(-0.84, -0.84), (0.84, -0.84), (0.84, 0.84), (-0.84, 0.84)]
    if kind == "triangle":
        return [(0, -1), (0.95, 0.75), (-0.95, 0.75)]
    if kind == "star":
        return [(math.sin(i * math.pi / 5) * (1 if i % 2 == 0 else 0.42),
                 -math.cos(i * math.pi / 5) * (1 if i % 2 == 0 else 0.42)) for i in range(10)]
    arm = 0.33
    return [(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm), (arm, 1),
            (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm)]


_POLYGONS = {kind: _polygon(kind) for kind in ("square", "triangle", "star", "cross")}


def _draw_shape(draw, shape, k):
    x, y, r = shape.x * k, shape.y * k, shape.r * k
    if shape.kind in ("circle", "ring"):
        box = (x - r, y - r, x + r, y + r)
        if shape.kind == "circle":
            draw.ellipse(box, fill=shape.rgb)
        else:
            draw.ellipse(box, outline=shape.rgb, width=max(3 * k, int(r * 0.36)))
        return
    c, s = math.cos(shape.angle), math.sin(shape.angle)
    draw.polygon([(x + r * (c * px - s * py), y + r * (s * px + c * py))
                  for px, py in _POLYGONS[shape.kind]], fill=shape.rgb)


def _draw_text(image, scene):
    font = _font(scene.face, scene.px)
    left, top, right, bottom = font.getbbox(scene.text)
    mask = Image.new("L", (right - left + 4, bottom - top + 4), 0)
    ImageDraw.Draw(mask).text((2 - left, 2 - top), scene.text, font=font, fill=255)
    if scene.angle:
        mask = mask.rotate(scene.angle, resample=Image.BILINEAR, expand=True)
    w, h = mask.size
    x = int(4 + scene.at[0] * max(0, SIDE - 8 - w))
    y = int(4 + scene.at[1] * max(0, SIDE - 8 - h))
    image.paste(scene.ink, (x, y), mask)


def render(scene):
    k = 2 if scene.fine else 1
    image = Image.new("RGB", (SIDE * k, SIDE * k), scene.ground)
    draw = ImageDraw.Draw(image)
    for shape in scene.shapes:
        _draw_shape(draw, shape, k)
    if k == 2:
        image = image.reduce(2)
    if scene.text:
        _draw_text(image, scene)
    return image


def finish(rng, image, clean=False):
    """What cameras and files do to a picture: softening, noise, JPEG."""
    if clean:
        return np.asarray(image)
    if rng.random() < 0.12:
        side = rng.randint(130, 210)
        image = image.resize((side, side), Image.BILINEAR).resize((SIDE, SIDE), Image.BICUBIC)
    pixels = np.asarray(image)
    if rng.random() < 0.45:
        noise = _noise_field(rng, rng.choice((3, 6, 10, 14)))
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
        image = None
    if rng.random() < 0.4:
        file = io.BytesIO()
        (image or Image.fromarray(pixels)).save(file, "JPEG", quality=rng.randint(60, 95))
        pixels = np.asarray(Image.open(file))
    return pixels


def _shape(rng, kind=None, radius=None, centre=None, colour=None):
    kind = kind or rng.choice(SHAPES)
    r = rng.uniform(*(radius or rng.choice((SMALL, LARGE))))
    if centre is None:
        centre = (rng.uniform(r + 4, SIDE - r - 4), rng.uniform(r + 4, SIDE - r - 4))
    name, rgb = colour or _colour(rng)
    return Shape(kind, centre[0], centre[1], r, name, rgb, math.radians(rng.uniform(-14, 14)))


def _single(rng, shape):
    return Scene(_ground_for(rng, [shape.rgb]), (shape,), fine=rng.random() < 0.3)


def _attribute(rng):
    shape = _shape(rng)
    what = rng.choice(("colour", "colour", "shape", "shape", "size"))
    answer = {"colour": shape.colour, "shape": shape.kind,
              "size": "small" if shape.r <= SMALL[1] else "large"}[what]
    question = rng.choice(QUESTIONS[what]).format(s=shape.kind)
    return _single(rng, shape), question, answer


PLACES = {"top left": (62, 62), "top right": (162, 62), "bottom left": (62, 162),
          "bottom right": (162, 162), "centre": (112, 112)}


def _place(rng):
    answer = rng.choice(tuple(PLACES))
    spread = 12 if answer == "centre" else 26
    cx, cy = (c + rng.uniform(-spread, spread) for c in PLACES[answer])
    room = min(cx, cy, SIDE - cx, SIDE - cy) - 3
    shape = _shape(rng, radius=(14, min(room, 60)), centre=(cx, cy))
    question = rng.choice(QUESTIONS["place"]).format(s=shape.kind)
    return _single(rng, shape), question, answer


def _count(rng):
    wanted = rng.randint(1, 5)
    kind = rng.choice(SHAPES)
    mixed = rng.random() < 0.35
    kinds = [kind] * wanted
    noun = PLURALS[kind] if rng.random() < 0.7 else "shapes"
    if mixed and noun == "shapes":
        kinds = [rng.choice(SHAPES) for _ in range(wanted)]
    elif mixed:
        others = [s for s in SHAPES if s != kind]
        kinds += [rng.choice(others) for _ in range(rng.randint(1, 2))]
    one_colour = _colour(rng) if rng.random() < 0.5 else None
    shapes, most = [], 34 if len(kinds) <= 4 else 28
    for each in kinds:
        for _ in range(200):
            shape = _shape(rng, kind=each, radius=(13, most), colour=one_colour)
            if all(math.hypot(shape.x - o.x, shape.y - o.y) > shape.r + o.r + 5 for o in shapes):
                shapes.append(shape)
                break
        else:
            return _count(rng)
    ground_colours = [s.rgb for s in shapes]
    if not one_colour:  # black and white together leave no light or dark ground
        names = {s.colour for s in shapes}
        if {"black", "white"} <= names or {"white", "purple"} <= names or \
                {"yellow", "black"} <= names:
            one = _colour(rng)
            shapes = [replace(s, colour=one[0], rgb=one[1]) for s in shapes]
            ground_colours = [one[1]]
    ground = None
    for _ in range(60):
        ground = _ground(rng)
        if all(_distance(ground, c) >= 100 for c in ground_colours):
            break
    else:
        return _count(rng)
    question = rng.choice(QUESTIONS["count"]).format(p=noun)
    return Scene(ground, tuple(shapes), fine=rng.random() < 0.3), question, str(wanted)


def _text_scene(rng, text, least=26, most=64):
    ground = _ground(rng)
    face = rng.choice(FACES)
    px = rng.randint(least, most)
    while _font(face, px).getlength(text) > SIDE - 26:
        px -= 3
    angle = rng.uniform(-8, 8) if rng.random() < 0.7 else 0.0
    return Scene(ground, text=text, face=face, px=px, at=(rng.random(), rng.random()),
                 angle=angle, ink=_ink(rng, ground))


def _number_text(rng):
    digits = rng.randint(1, 4)
    low = 0 if digits == 1 else 10 ** (digits - 1)
    return str(rng.randint(low, 10 ** digits - 1))


def _number(rng):
    text = _number_text(rng)
    return _text_scene(rng, text), rng.choice(QUESTIONS["number"]), text


def _word(rng):
    word = rng.choice(WORDS)
    style = rng.random()
    shown = word if style < 0.7 else word.upper() if style < 0.85 else word.capitalize()
    return _text_scene(rng, shown), rng.choice(QUESTIONS["word"]), word


def _bars_picture(rng):
    ground = _ground(rng)
    image = Image.new("RGB", (SIDE, SIDE), ground)
    draw = ImageDraw.Draw(image)
    base = rng.randint(190, 214)
    tallest = base - rng.randint(12, 30)
    while True:
        left, right = rng.randint(16, tallest), rng.randint(16, tallest)
        if abs(left - right) >= 10:
            break
    width = rng.randint(22, 60)
    middle = 112 + rng.randint(-12, 12)
    gap = rng.randint(6, 26)
    inks = [_ink(rng, ground)] * 2 if rng.random() < 0.5 else [_ink(rng, ground), _ink(rng, ground)]
    for x, height, ink in ((middle - gap - width, left, inks[0]), (middle + gap, right, inks[1])):
        draw.rectangle((x, base - height, x + width, base), fill=ink)
    if rng.random() < 0.6:
        draw.rectangle((16, base + 1, 208, base + 2), fill=_ink(rng, ground))
    return image, "left" if left > right else "right"


def _changed(rng, scene):
    """The same scene with exactly one thing changed, always by a visible amount."""
    shape = scene.shapes[0]
    what = rng.choice(("colour", "kind", "place", "size"))
    if what == "colour":
        for _ in range(60):
            name, rgb = _colour(rng)
            if name != shape.colour and _distance(rgb, scene.ground) >= 105:
                return replace(scene, shapes=(replace(shape, colour=name, rgb=rgb),))
    if what == "kind":
        kind = rng.choice([s for s in SHAPES if s != shape.kind])
        return replace(scene, shapes=(replace(shape, kind=kind),))
    if what == "place" and shape.r < 60:
        for _ in range(60):
            moved = _shape(rng, kind=shape.kind, radius=(shape.r, shape.r))
            if math.hypot(moved.x - shape.x, moved.y - shape.y) > 50:
                return replace(scene, shapes=(replace(shape, x=moved.x, y=moved.y),))
    small = shape.r <= 30
    r = shape.r * 2 if small else shape.r * 0.45
    x, y = (min(max(c, r + 3), SIDE - r - 3) for c in (shape.x, shape.y))
    return replace(scene, shapes=(replace(shape, r=r, x=x, y=y),))


def _same(rng):
    equal = rng.random() < 0.5
    kind = rng.random()
    if kind < 0.8:
        first = _single(rng, _shape(rng))
        if equal:
            second = first
        elif rng.random() < 0.75:
            second = _changed(rng, first)
        else:
            while True:
                second = _single(rng, _shape(rng))
                a, b = first.shapes[0], second.shapes[0]
                if a.kind != b.kind or a.colour != b.colour:
                    break
    else:
        draw_text = _number_text if kind < 0.9 else (lambda r: r.choice(WORDS))
        text = draw_text(rng)
        first = _text_scene(rng, text)
        second = first
        while not equal and second.text == text:
            second = replace(first, text=draw_text(rng))
    return first, second, rng.choice(QUESTIONS["same"]), "yes" if equal else "no"


_DRAWERS = {"attribute": _attribute, "place": _place, "count": _count, "number": _number,
            "word": _word}


def draw_sample(task, split, seed, index):
    rng = sample_rng(f"{split}/{task}", seed, index)
    if task == "same":
        first, second, question, answer = _same(rng)
        images = [finish(rng, render(first)), finish(rng, render(second))]
    elif task == "bars":
        image, answer = _bars_picture(rng)
        question = rng.choice(QUESTIONS["bars"])
        images = [finish(rng, image)]
    else:
        scene, question, answer = _DRAWERS[task](rng)
        images = [finish(rng, render(scene))]
    if split == "train":  # people do not always type capitals and marks
        if rng.random() < 0.12:
            question = question.lower()
        if rng.random() < 0.12:
            question = question.rstrip("?.")
    return Sample(task, question, answer, images)
