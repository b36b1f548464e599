"""deepctr-torch 0.3.0: DIN, one objective."""

import sys
from pathlib import Path

import torch
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
from deepctr_torch.models import DIN

from loop import measure, rows_of

WIDTH = 32


def main() -> None:
    """Train it."""
    folder, videos = Path(sys.argv[1]), int(sys.argv[3])
    torch.set_num_threads(1)
    rows = rows_of(folder)
    length = rows["past"].shape[1]
    columns = [
        SparseFeat("video", videos + 1, WIDTH),
        SparseFeat("surface", 32, WIDTH),
        SparseFeat("hour", 25, WIDTH),
        VarLenSparseFeat(
            SparseFeat("hist_video", videos + 1, WIDTH, embedding_name="video"),
            maxlen=length,
            length_name="past_length",
        ),
    ]
    model = DIN(columns, ["video"], device="cpu")
    number = len(rows["video"])
    flat = {
        "video": rows["video"].view(-1, 1),
        "surface": rows["surface"].view(-1, 1),
        "hour": rows["hour"].view(-1, 1),
        "hist_video": rows["past"],
        "past_length": torch.full((number, 1), length),
    }
    table = torch.empty(number, max(stop for _, stop in model.feature_index.values()))
    for name, (start, stop) in model.feature_index.items():
        table[:, start:stop] = flat[name].float()
    measure("deepctr-torch DIN", model, lambda here: table[here], rows["labels"], 0.0, 1)


if __name__ == "__main__":
    main()
