"""Images decoded by threads before their batch: the same batches, each file once."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
import torch
from data_common import CPU, make, write_pictures

from paragon_archs.config.sections.data import DataSection
from paragon_archs.data import image_store
from paragon_archs.data.reading import UnreadableImageError
from paragon_archs.data.stream import PREFETCHED, SampleStream, batches


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("hr"))


@pytest.fixture
def reads(monkeypatch):
    """Counts decoded files, and the threads that decode."""
    given, found = image_store.read_image, Counter()

    def read(file, channels):
        found[file.name] += 1
        found[threading.current_thread() is threading.main_thread()] += 1
        return given(file, channels)

    monkeypatch.setattr(image_store, "read_image", read)
    return found


def some(dataset, start=0, stop=6):
    stream = SampleStream(len(dataset), 2, seed=1)
    section = make_section()
    return stream, batches(dataset, stream, start, stop, CPU, section)


def make_section():
    return DataSection.__new__(DataSection)  # a set that makes batches reads none


@pytest.mark.parametrize("start", [0, 4])
def test_batches_are_those_of_reading_in_turn(start, folder, reads):
    """From the beginning and resumed; whatever the threads do."""
    stream, given = some(make(folder, cache="none"), start)
    plain = make(folder, cache="none")
    for step, made in enumerate(given, start):
        indices, seeds = zip(*stream.batch_of(step), strict=True)
        wanted = plain.batch(indices, seeds, CPU)
        for name in ("lq", "gt"):
            assert torch.equal(made[name], wanted[name])
        assert made["gt_path"] == wanted["gt_path"]
    assert reads[False]  # threads did


def test_two_batches_ahead_are_decoded_and_no_more(folder, reads):
    dataset = make(folder, cache="none")
    stream, given = some(dataset)
    next(given)
    coming = {i for step in range(PREFETCHED + 1) for i, _ in stream.batch_of(step)}
    names = {dataset.store.files[i].name for i in coming}
    dataset.expect([])  # waits for nothing, drops what has not begun
    dataset.store._pool.shutdown()
    assert set(reads) - {True, False} <= names
    assert not reads[True]


@pytest.mark.parametrize("bytes_", [1, 2 * 3 * 80 * 96])
def test_memory_bounds_what_is_decoded_ahead(bytes_, folder, reads, monkeypatch):
    monkeypatch.setattr(image_store, "_PREFETCHED", bytes_)
    store = make(folder, cache="none").store
    store.expect([0])
    assert store[0].nbytes == 3 * 80 * 96
    store.expect([0, 1, 2, 3, 4])
    assert len(store._coming) == max(1, bytes_ // (3 * 80 * 96))
    assert store[4].shape == (3, 80, 96)  # what is not ahead is read when asked for


def test_cached_images_need_no_thread(folder, reads):
    dataset = make(folder)
    decoded = reads.copy()
    list(some(dataset)[1])
    assert reads == decoded


def test_a_bad_file_fails_in_its_own_batch(tmp_path):
    dataset = make(write_pictures(tmp_path), cache="none")
    stream, given = some(dataset)
    bad = stream.batch_of(2)[1][0]
    first = next(s for s in range(6) if bad in [i for i, _ in stream.batch_of(s)])
    dataset.store.files[bad].write_bytes(b"no image")
    for _ in range(first):
        next(given)
    with pytest.raises(UnreadableImageError, match=dataset.store.files[bad].name):
        next(given)
