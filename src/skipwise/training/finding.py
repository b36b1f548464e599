"""What the retrieval head is taught in one batch.

    scores, batch  ->  FindingTeacher.loss  ->  sampled-softmax loss of the batch's own views

- What was not watched stands for itself: the batch's other videos, and some drawn evenly from those
  the training window has shown; the chance of each to be there is corrected for.
- What the viewer was shown in other events is left out: a feed does not show it again, and it was
  chosen for that viewer, so its chance to be there is not that of others. Of each glance it is
  said by itself that it is not to be found.
- Popularity is that of the start of the row's day, so that no view explains itself; a day before
  which nothing is known of it teaches nothing, lest the vectors learn popularity instead.

Reads `model.retrieval`, `features.popularity`; is read by `learner`.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skipwise.features.dataset import Dataset
from skipwise.features.popularity import popularity_by_day
from skipwise.features.vocabulary import Catalogue
from skipwise.model.batch import Batch, video_batch
from skipwise.model.recommender import Recommender, Scores
from skipwise.model.retrieval import log_chance, retrieval_loss, sampled_softmax


class FindingTeacher:
    """Knows which videos there are, how often each was shown, and how popular each was."""

    def __init__(
        self,
        dataset: Dataset,
        catalogue: Catalogue,
        known_rows: NDArray[np.int64],
        *,
        last_day: int,
        sampled: int,
        glances: float,
    ) -> None:
        """Count what was shown.

        Args:
            dataset: Where the rows lie.
            catalogue: The same in the model's indices.
            known_rows: (N,) event rows of the training window, the untimed past included.
            last_day: Of the training window.
            sampled: Videos drawn evenly per batch.
            glances: Weight of glances (`retrieval_loss`).
        """
        self.dataset, self.catalogue = dataset, catalogue
        self.sampled, self.glances = sampled, glances
        video, num_videos = dataset.events["video"].take(known_rows), dataset.videos.num_rows
        timed = dataset.events["counter_row"].take(known_rows) >= 0
        shown = np.bincount(video[timed], minlength=num_videos)
        self.share = (shown / max(timed.sum(), 1)).astype(np.float32)
        self.met = np.flatnonzero(np.bincount(video, minlength=num_videos))
        self.first_day = dataset.days[0]
        self.popularity = popularity_by_day(dataset, self.first_day, last_day, known_until=last_day)
        told: NDArray[np.bool_] = self.popularity.sum(axis=(1, 2)) > 0
        self.told = told if told.any() else ~told

    def loss(self, model: Recommender, scores: Scores, batch: Batch) -> Tensor:
        """Return the loss of a batch's effective views and glances; 0 where it has none."""
        effective_M = batch.targets.get("label_effective")
        glance_M = batch.targets.get("label_glance")
        if effective_M is None or glance_M is None or scores.past is None:
            return scores.liking_MD.sum() * 0
        told_M = torch.from_numpy(self.told[batch.day.cpu().numpy() - self.first_day])
        answered_M = (effective_M == 1) | (glance_M == 1)
        asked = torch.nonzero(answered_M & told_M.to(answered_M.device)).squeeze(1)
        sample = self._sample(batch)
        videos = video_batch(self.catalogue, sample, asked.device)
        videos_UR = model.retrieval.videos(
            model.inputs.embed_videos(videos), model.retrieval.co_watched[videos.video]
        )
        if not len(asked):  # looked up even so: processes with a table between them ask alike
            return videos_UR.sum() * 0
        viewers_PR, centre_loss = model.retrieval.centred(
            model.viewer_vectors(batch, scores.past)[asked]
        )
        logits_PU = viewers_PR @ videos_UR.T + self._popular(model, batch, asked, sample)
        others_PU = self._own_others(batch, videos.code, asked)
        log_share_P = sampled_softmax(
            logits_PU.masked_fill(others_PU, -torch.inf),
            self._log_chance(sample, len(batch.row)).to(asked.device),
            torch.searchsorted(videos.code, batch.videos.code[batch.candidate_video[asked]]),
        )
        found = retrieval_loss(log_share_P, effective_M[asked], glance_M[asked], self.glances)
        return found + centre_loss

    def _sample(self, batch: Batch) -> NDArray[np.int64]:
        """Return the (U,) codes, ascending, of the videos shown in a batch and of those drawn."""
        shown = batch.videos.code[batch.candidate_video].cpu().numpy()
        drawn = torch.randint(len(self.met), (self.sampled,)).numpy()
        return np.unique(np.concatenate([shown, self.met[drawn]]))

    def _log_chance(self, sample: NDArray[np.int64], showings: int) -> Tensor:
        even_share = min(self.sampled / max(len(self.met), 1), 1.0)
        return log_chance(torch.from_numpy(self.share[sample]), showings, even_share)

    def _popular(
        self, model: Recommender, batch: Batch, asked_P: Tensor, sample: NDArray[np.int64]
    ) -> Tensor:
        """(P, U) what popularity says, as of the start of each row's day."""
        days, day_P = np.unique(batch.day[asked_P].cpu().numpy(), return_inverse=True)
        counts_DUH = torch.from_numpy(self.popularity[days - self.first_day][:, sample])
        popular_DU = model.retrieval.popular(counts_DUH.to(asked_P.device))
        return popular_DU[torch.from_numpy(day_P).to(asked_P.device)]

    def _own_others(self, batch: Batch, sample_U: Tensor, asked_P: Tensor) -> Tensor:
        """(P, U) which sampled videos the row's viewer was shown in other events."""
        code_BT = batch.videos.code[batch.token_video]
        place_BT = torch.searchsorted(sample_U, code_BT).clamp(max=len(sample_U) - 1)
        there_BT = (sample_U[place_BT] == code_BT) & batch.token_valid
        stretch_BT = torch.arange(len(code_BT), device=code_BT.device)[:, None].expand_as(code_BT)
        shown_BU = code_BT.new_zeros(len(code_BT), len(sample_U), dtype=torch.bool)
        shown_BU[stretch_BT[there_BT], place_BT[there_BT]] = True
        place_M = torch.searchsorted(sample_U, batch.videos.code[batch.candidate_video])
        shown_BU[batch.stretch, place_M] = True
        others_PU = shown_BU[batch.stretch[asked_P]]
        others_PU[torch.arange(len(asked_P), device=asked_P.device), place_M[asked_P]] = False
        return others_PU
