#!/usr/bin/env python3
"""The peers of `benches/metrics.rs`, on one thread.

    metrics_peers.py opencv brisque FILE 9     peer, metric, image, runs

Prints the median CPU seconds of a run: from decoded RGB pixels to the value (OpenCV: to the features). Peers: `opencv`
(module `quality`), `pyiqa` (IQA-PyTorch; large) and `numpy` (`iqa.py` in the folder that DOGIQA_METRICS_NUMPY names).
A missing library is installed into a virtual environment under target/peers.
"""

import os
import statistics
import sys
import time

for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]:
    os.environ[name] = "1"

PEER, METRIC, FILE, RUNS = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
PACKAGES = {
    "opencv": ["numpy", "pillow", "opencv-contrib-python-headless"],
    "numpy": ["numpy", "pillow", "scipy"],
    "pyiqa": ["pyiqa"],
}

try:
    import numpy as np
    from PIL import Image

    if PEER == "opencv":
        import cv2
    elif PEER == "pyiqa":
        import pyiqa
        import torch
    else:
        import scipy
except ImportError:
    from virtual_environment import restart_in

    restart_in(f"metrics-{PEER}", PACKAGES[PEER])


def opencv(rgb):
    cv2.setNumThreads(1)
    bgr = np.ascontiguousarray(rgb[:, :, ::-1])
    return lambda: cv2.quality.QualityBRISQUE_computeFeatures(bgr)


def iqa_pytorch(rgb):
    torch.set_num_threads(1)
    options = {}
    if METRIC == "niqe" and "DOGIQA_PARAMETERS" in os.environ:
        # Otherwise the library downloads the same file.
        path = os.path.join(os.environ["DOGIQA_PARAMETERS"], "niqe", "modelparameters.mat")
        options["pretrained_model_path"] = path
    metric = pyiqa.create_metric(METRIC, device="cpu", **options)
    tensor = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None] / 255.0
    return lambda: metric(tensor)


def numpy(rgb):
    folder = os.environ["DOGIQA_METRICS_NUMPY"]
    sys.path.insert(0, folder)
    import iqa

    def biqi():
        grey = iqa.grey(rgb)
        return iqa.biqi_features(grey), iqa.jpeg_score(grey)

    return {
        "niqe": lambda: iqa.niqe_features(iqa.grey(rgb)),
        "brisque": lambda: iqa.brisque_features(iqa.grey(rgb)),
        "biqi": biqi,
        "bliinds2": lambda: iqa.bliinds2_features(rgb[:, :, 0]),
        "piqe": lambda: iqa.piqe(iqa.grey(rgb)),
    }[METRIC]


def main():
    rgb = np.asarray(Image.open(FILE).convert("RGB"))
    work = {"opencv": opencv, "pyiqa": iqa_pytorch, "numpy": numpy}[PEER](rgb)
    work()
    times = []
    for _ in range(RUNS):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    print(statistics.median(times))


if __name__ == "__main__":
    main()
