"""Fetches a model with huggingface_hub, the peer of `dogiqa models pull`, and prints its folder."""

import sys

from huggingface_hub import snapshot_download

FILES = ["config.json", "model.safetensors"]

print(snapshot_download(sys.argv[1], allow_patterns=FILES))
