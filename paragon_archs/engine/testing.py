"""A test run: a trained network over the test sets of an option file."""

from __future__ import annotations

import argparse
import contextlib
import logging

from basicsr.data import build_dataloader

from ..config.loading import Options
from .folders import make_folders, open_log, write_log
from .setup import build, build_set, join, together

logger = logging.getLogger("basicsr")


def run_tests(arguments: argparse.Namespace, options: Options) -> int:
    """Runs every test set through the model; returns 0.

    Raises:
        OptionError: when the options do not describe a network, or its weights are
            another's.
    """
    opt = options.values
    join(arguments, opt)
    open_log(opt)
    loaders = []
    for section in opt["datasets"].values():
        if section["phase"] == "train":
            continue
        dataset = build_set(section)
        logger.info("Test set %s: %d images.", section["name"], len(dataset))
        loaders.append(build_dataloader(dataset, section, sampler=None))
    model = build(options)
    with contextlib.ExitStack() as stack:
        if opt["rank"] == 0:
            stack.callback(make_folders(opt, keep=False).release)
        together(opt)
        write_log(opt, options.file)
        for loader in loaders:
            model.validation(
                loader,
                current_iter=opt["name"],
                tb_logger=None,
                save_img=opt["val"]["save_img"],
            )
    return 0
