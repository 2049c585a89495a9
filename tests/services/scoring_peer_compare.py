"""Compares the ratings of quality events with those of other events, or with a server's own answers.

usage: scoring_peer_compare.py events EVENTS.jsonl OTHERS.jsonl
       scoring_peer_compare.py server URL TOP_LOGPROBS FOLDER EVENTS.jsonl

`server` shares no code with the program: it cuts the objects out of FOLDER's images, sends the paper's prompt, and
normalises the probabilities of the levels. Fails if the largest difference is above the tolerance, which for `server`
is that of requests in turn.
"""

import base64
import io
import json
import math
import sys
import urllib.request

from PIL import Image

# llama-server rounds differently if it computes two prompts in one batch, or continues from a cached one.
TOGETHER_MAX = 1e-2
# In turn and without the cache, it repeats its answers exactly.
IN_TURN_MAX = 1e-6
# The program enlarges smaller crops.
SIDE_MIN = 32
WORDS = ["very bad", "poor", "bad", "fair", "good", "excellent", "perfect"]
SYSTEM = (
    "You are a helpful assistant to evaluate image quality. You will be given standards for each quality level. "
    "The quality standard is listed as follows: 7: Perfect, 6: Excellent, 5: Good, 4: Fair, 3: Bad, 2: Poor, 1: Very Bad. "
    "The higher the image quality is, the higher the score should be."
)
QUESTION = "Please evaluate the quality of the image and score in [1, 2, 3, 4, 5, 6, 7]."


def level(token: str) -> int | None:
    token = token.strip().lower()
    if len(token) == 1 and token.isdecimal():
        return int(token) if 1 <= int(token) <= len(WORDS) else None
    begun = [number for number, word in enumerate(WORDS, 1) if len(token) > 1 and word.startswith(token)]
    return begun[0] if len(begun) == 1 else None


def ask(url: str, top: int, picture: Image.Image) -> dict:
    png = io.BytesIO()
    picture.save(png, "PNG")
    data = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
    content = [{"type": "image_url", "image_url": {"url": data}}, {"type": "text", "text": QUESTION}]
    body = {"model": "any", "max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": top, "cache_prompt": False,
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]}
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def expected(answer: dict) -> tuple[list[float], float, float]:
    """Returns the probabilities of the levels, and those of other tokens and of unreported ones."""
    shares = [0.0] * len(WORDS)
    other = 0.0
    for token in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        share = math.exp(token["logprob"])
        number = level(bytes(token["bytes"]).decode(errors="replace"))
        if number is None:
            other += share
        else:
            shares[number - 1] += share
    total = sum(shares)
    return [share / total for share in shares], other, 1 - total - other


def read(path: str) -> list[dict]:
    with open(path) as lines:
        return [json.loads(line) for line in lines]


def ratings(event: dict) -> list[tuple[list[int] | None, dict]]:
    """Returns all ratings with the bounding boxes of their objects."""
    objects = [(thing["bbox"], thing["rating"]) for thing in event["objects"] if thing.get("rating")]
    return [(None, event["global"]), *objects]


def differences(rating: dict, probabilities: list[float], off_level: float, unreported: float) -> list[float]:
    pairs = [*zip(rating["probabilities"], probabilities, strict=True),
             (rating.get("off_level"), off_level), (rating.get("unreported"), unreported)]
    return [0.0 if found is wanted is None else abs(found - wanted) for found, wanted in pairs]


def compare_events(events: str, others: str) -> None:
    largest = []
    for event, other in zip(read(events), read(others), strict=True):
        assert event["reference"]["id"] == other["reference"]["id"]
        for (box, rating), (other_box, other_rating) in zip(ratings(event), ratings(other), strict=True):
            assert box == other_box
            parts = (other_rating.get(part) for part in ("probabilities", "off_level", "unreported"))
            largest.append(max(differences(rating, *parts)))
    report(f"{len(largest)} ratings, twice", max(largest), TOGETHER_MAX)


def compare_server(url: str, top: str, folder: str, events: str) -> None:
    largest, distributions = [], set()
    with_unreported_level, unreported_max = 0, 0.0
    for event in read(events):
        photo = Image.open(f"{folder}/{event['reference']['id'].rsplit('/', 1)[-1]}").convert("RGB")
        for box, rating in ratings(event):
            x, y, width, height = box or (0, 0, *photo.size)
            if min(width, height) < SIDE_MIN:
                continue
            answer = ask(url, int(top), photo.crop((x, y, x + width, y + height)))
            by = {"model": answer["model"], "system_fingerprint": answer["system_fingerprint"]}
            assert event["engine"]["servers"] == [by], (event["engine"], by)
            largest.append(max(differences(rating, *expected(answer))))
            distributions.add(tuple(rating["probabilities"]))
            with_unreported_level += 0.0 in rating["probabilities"]
            unreported_max = max(unreported_max, rating["unreported"])
    assert len(distributions) > len(largest) / 2, "the ratings hardly depend on the pictures"
    report(f"{len(largest)} ratings and own requests, {len(distributions)} different ratings, {with_unreported_level} "
           f"with a level outside the {top} tokens, at most {unreported_max:.4f} unreported", max(largest), IN_TURN_MAX)


def report(text: str, difference: float, difference_max: float) -> None:
    print(f"{text}; largest difference {difference:.1e}")
    assert difference <= difference_max, f"above {difference_max}"


{"events": compare_events, "server": compare_server}[sys.argv[1]](*sys.argv[2:])
