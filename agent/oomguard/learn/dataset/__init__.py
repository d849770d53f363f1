"""Recordings (DESIGN 4.9) become clean runs, and runs become one table to learn from; docs/recordings.md says how."""

from oomguard.learn.dataset.account import Account
from oomguard.learn.dataset.card import Card
from oomguard.learn.dataset.facts import clean_devices
from oomguard.learn.dataset.recordings import read_recordings, stream_recordings
from oomguard.learn.dataset.run import NUMBERS, Digest, Run, digest_of
from oomguard.learn.dataset.write import make_dataset

__all__ = ["NUMBERS", "Account", "Card", "Digest", "Run", "clean_devices", "digest_of", "make_dataset",
           "read_recordings", "stream_recordings"]
