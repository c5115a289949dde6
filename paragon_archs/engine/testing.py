"""A test run: a trained network over the test sets of an option file."""

from __future__ import annotations

import contextlib
import logging

from basicsr.data import build_dataloader

from .context import RunContext
from .folders import check_unlocked, make_folders, write_log
from .setup import build, build_set

logger = logging.getLogger("basicsr")


def run_tests(context: RunContext) -> int:
    """Runs every test set through the model; returns 0.

    Raises:
        OptionError: when the options do not describe a network, or its weights are
            another's.
    """
    options, folders = context.options, context.folders
    values, name = options.values, options.name
    if context.first:
        check_unlocked(folders, name)
    loaders = []
    for section in values["datasets"].values():
        if section["phase"] == "train":
            continue
        dataset = build_set(section)
        logger.info("Test set %s: %d images.", section["name"], len(dataset))
        loaders.append(build_dataloader(dataset, section, sampler=None))
    model = build(options, context.host_options())
    with contextlib.ExitStack() as stack:
        if context.first:
            lock = make_folders(folders, name, training=False, keep=False)
            stack.callback(lock.release)
        context.wait()
        if context.first:
            write_log(folders.root, name, False, options.file)
        for loader in loaders:
            model.validation(
                loader,
                current_iter=name,
                tb_logger=None,
                save_img=values["val"]["save_img"],
            )
    return 0
