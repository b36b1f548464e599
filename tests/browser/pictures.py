"""Pictures of the page as they were when somebody last looked at them, small and grey.

    screenshot  ->  reduced: one grey value per 8 x 8 pixels  ->  differs: how far from the kept one

- Small enough to keep, and blind to how a machine smooths letters; not to what moved or is gone.
- `SKIPWISE_KEEP_PICTURES=1 pytest tests/browser -k pictures` keeps new ones: look at them first.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

KEPT = Path(__file__).resolve().parent / "pictures"
BLOCK = 8


def reduced(shot: Path) -> NDArray[np.uint8]:
    """Average a screenshot's blocks, (rows, columns) grey."""
    grey = np.asarray(Image.open(shot).convert("L"), dtype=np.float64)
    rows, columns = grey.shape[0] // BLOCK, grey.shape[1] // BLOCK
    blocks = grey[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    picture: NDArray[np.uint8] = np.round(blocks.mean((1, 3))).astype(np.uint8)
    return picture


def differs(picture: NDArray[np.uint8], name: str) -> float:
    """Return the share of blocks that are clearly not as kept; 1 where the sizes differ."""
    kept = np.asarray(Image.open(KEPT / f"{name}.png"), dtype=np.float64)
    if kept.shape != picture.shape:
        return 1.0
    return float((np.abs(kept - picture) > 30).mean())


def kept_names() -> set[str]:
    """Names of the pictures that are kept."""
    return {path.stem for path in KEPT.glob("*.png")}


def keep(pictures: Mapping[str, NDArray[np.uint8]]) -> None:
    """Keep pictures as what is wanted, and no others."""
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir()
    for name, picture in pictures.items():
        Image.fromarray(picture).save(KEPT / f"{name}.png", optimize=True)
