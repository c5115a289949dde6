"""A signal to the whole process group must not take the loader's workers away."""

from __future__ import annotations

import os
import signal

import torch

from paragon_archs.config.sections.data import DataSection
from paragon_archs.data import stream


class Interrupted(torch.utils.data.Dataset):
    """Sends its own worker the signals that Ctrl-C and `kill` would."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index):
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        return {"index": index, "worker": os.getpid()}


def test_workers_leave_signals_to_the_parent():
    dataset = Interrupted()
    plan = stream.SampleStream(len(dataset), batch=2, seed=0)
    got = list(
        stream.batches(
            dataset,
            plan,
            0,
            2,
            torch.device("cpu"),
            DataSection.read({"num_worker_per_gpu": 1}),
        )
    )
    assert sorted(int(i) for batch in got for i in batch["index"]) == [0, 1, 2, 3]
    assert all(int(w) != os.getpid() for batch in got for w in batch["worker"])
