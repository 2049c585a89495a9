"""Writes a small random Qwen2-VL for llama.cpp, which answers with digits and words, with the tokenizer of Qwen2.

usage: scoring_peer_qwen2_vl.py FOLDER TOKENIZER.json.gz

The tensors are random, so a rating means nothing, but it depends on every pixel. A large picture has more tokens.
"""

import gzip
import json
import math
import sys

import gguf
import numpy

WIDTH = 64
HEADS = 4
LAYERS = 2
HIDDEN = 128
# One token of an image for each 56 x 56 px.
PATCH = 28
# Every token of the text has this value in channel 0. The head turns it into the mean logit of an answer.
CONSTANT = 8.0
# Answers with their mean logits: all others together have a probability of a few per cent.
ANSWERS = {-1.0: [*"1234567"], -2.0: [f"Ġ{word}" for word in ("Good", "Bad", "Fair")] + ["Good", "Bad", "Ex", "Per"],
           -2.5: ["The", "I", "This", "Ġ", "8", "9", "0", "<|im_end|>", "<|endoftext|>", "ï¼ķ", "Very", "ä", "Score"]}
OTHERS = -23.0
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.content is string %}"
    "{{ message.content }}{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

random = numpy.random.default_rng(1)


def normal(*shape: int, scale: float = 1.0) -> numpy.ndarray:
    """Returns a matrix that keeps the size of its input, times `scale`."""
    return (random.standard_normal(shape) * scale / math.sqrt(shape[-1])).astype(numpy.float32)


def ones(width: int) -> numpy.ndarray:
    return numpy.ones(width, numpy.float32)


def zeros(width: int) -> numpy.ndarray:
    return numpy.zeros(width, numpy.float32)


def constant(matrix: numpy.ndarray) -> numpy.ndarray:
    """Keeps channel 0 free of what a layer adds."""
    matrix[0] = 0
    return matrix


def write_text(path: str, tokenizer: dict) -> None:
    vocabulary = tokenizer["model"]["vocab"]
    special = [token["content"] for token in sorted(tokenizer["added_tokens"], key=lambda token: token["id"])]
    special += ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    tokens = sorted(vocabulary, key=vocabulary.get) + special
    ids = {token: index for index, token in enumerate(tokens)}
    kinds = [gguf.TokenType.NORMAL] * len(vocabulary) + [gguf.TokenType.CONTROL] * len(special)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]

    writer = gguf.GGUFWriter(path, "qwen2vl")
    writer.add_name("random-qwen2-vl")
    writer.add_context_length(32768)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_dimension_sections([2, 3, 3, 0])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    embeddings = normal(len(tokens), WIDTH, scale=math.sqrt(WIDTH))
    embeddings[:, 0] = CONSTANT
    head = normal(len(tokens), WIDTH)
    head[:, 0] = OTHERS
    for mean, answers in ANSWERS.items():
        rows = [ids[answer] for answer in answers]
        head[rows] = normal(len(rows), WIDTH, scale=3)
        head[rows, 0] = mean
    # The constant is about 0.7 of a state's length, which the norm makes the square root of the width.
    head[:, 0] /= 0.7 * math.sqrt(WIDTH)
    writer.add_tensor("token_embd.weight", embeddings.astype(numpy.float16))
    writer.add_tensor("output.weight", head.astype(numpy.float16))
    writer.add_tensor("output_norm.weight", ones(WIDTH))
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}.{norm}.weight", ones(WIDTH))
        for name, width in (("attn_q", WIDTH), ("attn_k", WIDTH // 2), ("attn_v", WIDTH // 2)):
            writer.add_tensor(f"{block}.{name}.weight", normal(width, WIDTH, scale=2))
            writer.add_tensor(f"{block}.{name}.bias", zeros(width))
        writer.add_tensor(f"{block}.attn_output.weight", constant(normal(WIDTH, WIDTH, scale=2)))
        for name in ("ffn_gate", "ffn_up"):
            writer.add_tensor(f"{block}.{name}.weight", normal(HIDDEN, WIDTH))
        writer.add_tensor(f"{block}.ffn_down.weight", constant(normal(WIDTH, HIDDEN)))
    finish(writer)


def write_vision(path: str) -> None:
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("qwen2vl_merger")
    writer.add_vision_image_size(560)
    writer.add_vision_patch_size(PATCH)
    writer.add_vision_embedding_length(WIDTH)
    writer.add_vision_feed_forward_length(HIDDEN)
    writer.add_vision_block_count(LAYERS)
    writer.add_vision_head_count(HEADS)
    writer.add_vision_projection_dim(WIDTH)
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])

    for part in ("v.patch_embd.weight", "v.patch_embd.weight.1"):
        pixels = normal(WIDTH, 3 * PATCH * PATCH, scale=8)
        writer.add_tensor(part, pixels.reshape(WIDTH, 3, PATCH, PATCH))
    for layer in range(LAYERS):
        block = f"v.blk.{layer}"
        for norm in ("ln1", "ln2"):
            writer.add_tensor(f"{block}.{norm}.weight", ones(WIDTH))
            writer.add_tensor(f"{block}.{norm}.bias", zeros(WIDTH))
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            writer.add_tensor(f"{block}.{name}.weight", normal(WIDTH, WIDTH))
            writer.add_tensor(f"{block}.{name}.bias", zeros(WIDTH))
        writer.add_tensor(f"{block}.ffn_up.weight", normal(HIDDEN, WIDTH))
        writer.add_tensor(f"{block}.ffn_up.bias", zeros(HIDDEN))
        writer.add_tensor(f"{block}.ffn_down.weight", normal(WIDTH, HIDDEN))
        writer.add_tensor(f"{block}.ffn_down.bias", zeros(WIDTH))
    writer.add_tensor("v.post_ln.weight", ones(WIDTH))
    writer.add_tensor("v.post_ln.bias", zeros(WIDTH))
    # Four patches become one token.
    writer.add_tensor("mm.0.weight", normal(4 * WIDTH, 4 * WIDTH))
    writer.add_tensor("mm.0.bias", zeros(4 * WIDTH))
    writer.add_tensor("mm.2.weight", constant(normal(WIDTH, 4 * WIDTH, scale=4)))
    writer.add_tensor("mm.2.bias", zeros(WIDTH))
    finish(writer)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


folder, compressed = sys.argv[1:]
with gzip.open(compressed) as source:
    write_text(f"{folder}/model.gguf", json.load(source))
write_vision(f"{folder}/mmproj.gguf")
