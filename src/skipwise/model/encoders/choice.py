"""Which encoder reads the past? One line each; all are trained and measured by the same code.

    encoder.kind  ->  build_encoder  ->  (encodes events, reads them for a candidate)

- An encoder is two modules: `events_BTD, groups_BT, time_s_BT, valid_BT -> history_BTD`, and
  `attend(queries_QMD, history_BTD, reading) -> (Q, M, D) readings, (Q, M, H, 1 + T) attention`,
  place 0 of the attention being "no past".
- Which past it is given, how far back it reaches and how often it is asked is in `encoder.KINDS`.
- Inputs, counters, context and objectives around it are the same for all: what differs between two
  runs that differ in `encoder.kind` alone is the encoder.

Reads the files of this folder; is read by `recommender`. No I/O.
"""

from collections.abc import Callable, Mapping

from torch import nn

from skipwise.model.encoder import HistoryEncoder
from skipwise.model.encoder_settings import EncoderSettings
from skipwise.model.encoders.dfar import FactorisedHeads, InterestReader
from skipwise.model.encoders.din import ActivationReader
from skipwise.model.encoders.gru4rec import RecurrentEncoder
from skipwise.model.encoders.last import LastEventReader, NoPastReader, Unencoded
from skipwise.model.encoders.sasrec import SelfAttention
from skipwise.model.encoders.sine import SparseInterestReader
from skipwise.model.reader import CandidateReader, Reader

Encodes = Callable[[int, EncoderSettings], nn.Module]
Reads = Callable[[int, EncoderSettings], Reader]

ENCODERS: Mapping[str, tuple[Encodes, Reads]] = {
    "feedback": (HistoryEncoder, CandidateReader),
    "none": (Unencoded, NoPastReader),
    "din": (Unencoded, ActivationReader),
    "sasrec": (SelfAttention, LastEventReader),
    "gru4rec": (RecurrentEncoder, LastEventReader),
    "sine": (Unencoded, SparseInterestReader),
    "dfar": (FactorisedHeads, InterestReader),
}
"""kind -> what encodes, what reads."""


def build_encoder(width: int, settings: EncoderSettings) -> tuple[nn.Module, Reader]:
    """Make an untrained encoder and its reader.

    Args:
        width: D.
        settings: Says which kind, and its size.
    """
    encoder, reader = ENCODERS[settings.kind]
    return encoder(width, settings), reader(width, settings)
