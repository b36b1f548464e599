"""torch-rechub 0.9.0: DIN (one objective), MMOE and PLE over a mean-pooled history (eight)."""

import sys
from pathlib import Path

import torch
from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature
from torch_rechub.models.multi_task import MMOE, PLE
from torch_rechub.models.ranking import DIN

from loop import measure, rows_of

WIDTH = 32


def main() -> None:
    """Train one of them."""
    folder, which, videos = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = rows_of(folder)
    video = SparseFeature("video", videos + 1, WIDTH)
    pooling = "concat" if which == "DIN" else "mean"
    past = SequenceFeature("past", videos + 1, WIDTH, pooling=pooling, shared_with="video")
    surface, hour = SparseFeature("surface", 32, WIDTH), SparseFeature("hour", 25, WIDTH)
    counters = DenseFeature("counters", rows["counters"].shape[1])
    expert = {"dims": [64, 32], "activation": "relu", "dropout": 0.1}
    towers = [{"dims": [16], "activation": "relu"} for _ in range(8)]
    kinds = ["classification"] * 8
    features = [video, past, surface, hour, counters]
    if which == "DIN":
        model = DIN(
            [surface, hour],
            [past],
            [video],
            mlp_params={"dims": [256, 128]},
            attention_mlp_params={"dims": [36]},
        )
    elif which == "MMOE":
        model = MMOE(features, kinds, 5, expert, towers)
    else:
        model = PLE(features, kinds, 1, 1, 2, expert, towers)

    def inputs(here: slice) -> dict[str, torch.Tensor]:
        return {name: values[here] for name, values in rows.items() if name != "labels"}

    tasks = 1 if which == "DIN" else 8
    measure(f"torch-rechub {which}", model, inputs, rows["labels"], 1e-5, tasks)


if __name__ == "__main__":
    main()
