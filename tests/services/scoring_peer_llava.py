"""Writes a small random LLaVA whose every answer is a level, with the tokenizer of Qwen2.

usage: scoring_peer.py FOLDER TOKENIZER.json.gz
"""

import gzip
import os
import sys

import torch
from transformers import CLIPImageProcessor, CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers import LlavaProcessor, PreTrainedTokenizerFast, Qwen2Config

SIDE = 56
LEVELS = [str(level) for level in range(1, 8)]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% else %}<image>{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

folder, compressed = sys.argv[1:]
os.makedirs(folder)
with gzip.open(compressed) as source, open(f"{folder}/tokenizer.json", "wb") as target:
    target.write(source.read())
tokenizer = PreTrainedTokenizerFast(
    tokenizer_file=f"{folder}/tokenizer.json", eos_token="<|im_end|>", pad_token="<|endoftext|>")
tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
tokenizer.chat_template = TEMPLATE

vision = CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                          image_size=SIDE, patch_size=14, projection_dim=32)
text = Qwen2Config(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                   num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False)
config = LlavaConfig(vision_config=vision, text_config=text, tie_word_embeddings=False,
                     image_token_index=tokenizer.convert_tokens_to_ids("<image>"))
torch.manual_seed(1)
model = LlavaForConditionalGeneration(config).eval()
with torch.no_grad():
    # Only levels have a logit.
    head = torch.zeros_like(model.lm_head.weight)
    head[tokenizer.convert_tokens_to_ids(LEVELS)] = 3 * torch.randn(len(LEVELS), head.shape[1])
    model.lm_head.weight.copy_(head)
model.save_pretrained(folder)
processor = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
LlavaProcessor(image_processor=processor, tokenizer=tokenizer, patch_size=14, chat_template=TEMPLATE,
               vision_feature_select_strategy="default", image_token="<image>",
               num_additional_image_tokens=1).save_pretrained(folder)
