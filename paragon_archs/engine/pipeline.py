"""A training run: data, model, log, checkpoints, validation, stop and resume.

It takes the place of the host's `train_pipeline` and keeps its folders, file names and
log lines.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import math
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from basicsr.utils.logger import init_wandb_logger
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..config.check import has_base
from ..config.errors import TrainingError, wrong
from ..config.sections.run import RunSection
from ..data.stream import batches, preserved_rng
from ..utils.locks import Lock
from ..utils.processes import any_process
from ..utils.signals import StopRequest
from .context import RunContext
from .folders import check_unlocked, make_folders, write_log
from .guard import skipped_steps
from .report import Report
from .resuming import report_changes
from .setup import build
from .state import (
    ResumePoint,
    find_state,
    prune,
    save_state,
    set_rng_state,
    weights_beside,
)
from .stopping import build_stopping, metric_value, new_bests
from .training_data import Part, TrainingData

logger = logging.getLogger("basicsr")


FITTED_BATCHES = 24  # that train:fit_head looks at


class Run:
    """One training run: built in the order of its attributes, then trained.

    Args:
        context: Options, processes, device, folders.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.options = context.options
        self.lock: Lock | None = None
        if context.first:
            check_unlocked(context.folders, self.options.name)
        self.resume = find_state(context)
        self.current_iter = self.resume.iteration if self.resume else 0
        if self.resume is not None:
            self.context = context.resumed(self.resume.state.get("position") or {})
        self.data = TrainingData(self.context)
        self.total_iter, self.stream = self.data.total_iter, self.data.stream
        self.build_model()
        if context.first:
            self.make_folders()
        context.wait()
        self.tb_logger = self.open_tensorboard()
        self.report = self.open_report()

    def close(self) -> None:
        """Lets go of the run's folder."""
        if self.lock is not None:
            self.lock.release()

    # Setting up ------------------------------------------------------------------

    def make_folders(self) -> None:
        """Makes the run's folders, locked, and writes the log into them."""
        folders, name = self.context.folders, self.options.name
        keep = self.resume is not None
        self.lock = make_folders(folders, name, training=True, keep=keep)
        write_log(folders.root, name, True, self.options.file)

    def position(self) -> dict[str, object]:
        """Returns what a state records of the place in the data."""
        stopping = self.stopping[0].state_dict() if self.stopping else None
        return {**self.data.position(), "stopping": stopping}

    def build_model(self) -> None:
        """Builds the model and brings it where the state left it."""
        resume = self.resume
        lone = resume is not None and "networks" not in resume.state
        self.opt = self.context.host_options(
            iterations_per_epoch=self.stream.iterations_per_epoch,
            train={"total_iter": self.total_iter},
            path=weights_beside(self.options, resume) if resume and lone else {},
        )
        self.sections = RunSection.read(self.opt)
        self.model: Any = build(self.options, self.opt)
        self.ours = has_base(type(self.model), "ParagonModel")
        names = [loader.dataset.opt["name"] for loader in self.data.val_loaders]
        self.stopping = build_stopping(self.sections.val, names)
        if resume is not None:
            self.restore(resume)

    def restore(self, resume: ResumePoint) -> None:
        """Brings model, early stopping and random numbers where a state left them."""
        state = resume.state
        try:
            self.model.resume_training(state)
        except (ValueError, KeyError) as error:
            lacks = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise wrong(
                "other_state",
                value=str(resume.file),
                problem=lacks,
                place=self.options.place(("path", "resume_state")),
            ) from error
        if self.stopping and state.get("position", {}).get("stopping"):
            self.stopping[0].load_state_dict(state["position"]["stopping"])
        generators = state.get("rng", [])
        if self.context.rank < len(generators):
            set_rng_state(generators[self.context.rank])
        logger.info("Resuming after iteration %d.", self.current_iter)
        self.data.compare(state.get("position") or {})
        report_changes(state, self.options.recorded)

    def open_tensorboard(self) -> Any:
        """Returns TensorBoard's writer, or None; a resumed run overwrites no step."""
        log = self.sections.logger
        if not self.context.first or not log.use_tb_logger:
            return None
        if log.wandb and log.wandb.project:
            init_wandb_logger({**self.opt, "root_path": str(self.options.root)})
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (slow)

        folder = self.context.folders.root / "tb_logger"
        purge = self.current_iter + 1 if self.resume else None
        return SummaryWriter(str(folder), purge_step=purge)

    def open_report(self) -> Report | None:
        """Returns the writer of `report.html`, or None where it is not wanted."""
        if not self.context.first or not self.sections.logger.report:
            return None
        network = self.model.get_bare_model(self.model.net_g)
        return Report(self.context, network, self.total_iter, self.current_iter)

    # Running ---------------------------------------------------------------------

    def train(self) -> int:
        """Trains to the end, to the early stop, or until asked to stop.

        Returns:
            0, or 128 plus the number of the signal that stopped it.
        """
        self.started, self.first_iter = time.time(), self.current_iter
        code = 0
        with StopRequest() as stop, self.progress() as bar:
            try:
                if not self.finished():
                    self.fit_head()
                    with contextlib.closing(self.samples()) as samples:
                        code = self.iterate(samples, stop, bar)
            except ValueError as error:
                # A worker's error arrives with its traceback; the sentence is last.
                text = str(error).strip().split("\n")[-1]
                raise TrainingError(text.partition("Error: ")[2] or text) from error
        if code == 0:
            spent = datetime.timedelta(seconds=int(time.time() - self.started))
            logger.info("End of training after %s; saving the latest.", spent)
            self.model.save(epoch=-1, current_iter=-1)
        if self.tb_logger:
            self.tb_logger.close()
        return code

    def finished(self) -> bool:
        """True when nothing is left to do."""
        stopped = self.stopping is not None and self.stopping[0].done
        return stopped or self.current_iter >= self.total_iter

    def fit_head(self) -> None:
        """Fits the network's head to the first batches, where a fresh run asks."""
        if self.current_iter == 0 and self.sections.train.fit_head:
            first = self.data.parts[0]
            count = min(FITTED_BATCHES, first.stop)
            with contextlib.closing(self.batches_of(first, 0, count)) as stream:
                self.model.fit_head(stream)

    def samples(self) -> Generator[dict[str, Any], None, None]:
        """Yields the batches of all iterations that are left."""
        for part in self.data.parts:
            if self.current_iter < part.stop:
                self.stream = part.stream
                stream = self.batches_of(part, self.current_iter, part.stop)
                with contextlib.closing(stream):
                    yield from stream

    def batches_of(
        self, part: Part, start: int, stop: int
    ) -> Generator[dict[str, Any], None, None]:
        """Yields the batches of iterations `start` to `stop` (from 0)."""
        return batches(
            part.dataset, part.stream, start, stop, self.model.device, part.section
        )

    def iterate(
        self, samples: Iterable[dict[str, object]], stop: StopRequest, bar: tqdm
    ) -> int:
        """Takes one step for every batch; returns the exit code."""
        sections, model = self.sections, self.model
        warmup = sections.train.warmup_iter
        data_clock = time.time()
        for data in samples:
            data_time = time.time() - data_clock
            step_clock = time.time()
            self.current_iter += 1
            model.current_iter = self.current_iter
            model.update_learning_rate(self.current_iter, warmup_iter=warmup)
            model.feed_data(data)
            model.stop_number = stop.number  # what it gathers takes it along
            model.optimize_parameters(self.current_iter)
            bar.update()
            if self.current_iter % sections.logger.print_freq == 0:
                self.log(time.time() - step_clock, data_time, bar)
            self.validate_and_save()
            asked = self.asked(stop)
            if asked:
                self.save()
                self.write_report()
                logger.warning(
                    "Asked to stop (signal %d); saved iteration %d. Go on with "
                    "--auto_resume.",
                    asked,
                    self.current_iter,
                )
                return 128 + asked
            if self.finished():
                break
            data_clock = time.time()
        return 0

    def asked(self, stop: StopRequest) -> int:
        """Returns the signal that asks this process, or another one, to stop."""
        world = self.context.world_size
        if self.ours and world > 1:
            return self.model.asked
        return any_process(stop.number, world, self.model.device)

    def validate_and_save(self) -> None:
        """Does what is due after this iteration; the last one is always due."""
        val, last = self.sections.val, self.current_iter >= self.total_iter
        frequency = self.sections.logger.save_checkpoint_freq
        validates = val and (self.current_iter % val.val_freq == 0 or last)
        if validates:
            try:
                self.validate()
            except BaseException:
                self.save()  # hours of training shall not go with a failed validation
                raise
        saves = self.current_iter % frequency == 0 or self.finished()
        if saves:
            self.save()
        if validates or saves:
            self.write_report()

    def validate(self) -> None:
        """Validates every set, keeps the best weights, feeds the early stop."""
        val = self.sections.val
        assert val is not None
        for loader in self.data.val_loaders:
            with preserved_rng(self.model.device):
                self.model.validation(
                    loader, self.current_iter, self.tb_logger, val.save_img
                )
            name = loader.dataset.opt["name"]
            if val.save_best and self.ours:
                for label in new_bests(self.model, name, self.current_iter):
                    self.model.save_released(label)
            values = {m: metric_value(self.model, m) for m in val.metrics or ()}
            if self.report:
                self.report.validated(self.current_iter, name, values)
            for metric, value in values.items():
                if math.isnan(value):
                    logger.warning(
                        "%s of %s is no number at iteration %d; it counts neither as "
                        "better nor as worse.",
                        metric,
                        name,
                        self.current_iter,
                    )
            if self.stopping and self.stopping[1] == name:
                rule, _, metric = self.stopping
                rule.update(values[metric])
                if rule.done:
                    logger.info(
                        "%s of %s has not improved in %d validations (best %.4f): "
                        "stopping early at iteration %d.",
                        metric,
                        name,
                        rule.waited,
                        rule.best if rule.best is not None else float("nan"),
                        self.current_iter,
                    )

    def save(self) -> None:
        """Writes weights and the training state of this iteration.

        Raises:
            TrainingError: when the disk is full or a weight is not finite.
        """
        epoch = self.stream.epoch_of(self.current_iter)
        folders = self.context.folders
        try:
            self.model.save(epoch, self.current_iter)
            save_state(
                folders.states,
                self.model,
                epoch,
                self.current_iter,
                self.position(),
                self.options.recorded,
            )
            if self.context.first:
                keep = self.sections.logger.keep_checkpoints
                prune(folders.states, folders.models, keep)
        except OSError as error:
            raise TrainingError(
                f"Expected room for the checkpoint of iteration {self.current_iter}, "
                f"but writing it failed: {error}. Free some disk space and go on with "
                "--auto_resume."
            ) from error
        if self.ours:
            self.model.guard.remember()

    def write_report(self) -> None:
        """Writes `report.html`, where it is wanted."""
        if self.report:
            self.report.write(self.current_iter, self.finished())

    # Reporting -------------------------------------------------------------------

    @contextlib.contextmanager
    def progress(self) -> Iterator[tqdm]:
        """Yields a bar with ETA; silent where stderr is no terminal."""
        quiet = None if self.context.first else True
        with (
            tqdm(
                total=self.total_iter,
                initial=self.current_iter,
                unit="it",
                desc=self.options.name,
                disable=quiet,
                dynamic_ncols=True,
            ) as bar,
            logging_redirect_tqdm([logger])
            if not bar.disable
            else contextlib.nullcontext(),
        ):
            yield bar

    def log(self, step_time: float, data_time: float, bar: tqdm) -> None:
        """Writes the host's log line, the bar's figures and TensorBoard's scalars."""
        if not self.context.first:
            return
        losses = self.model.get_current_log()
        rates = self.model.get_current_learning_rate()
        if self.report:
            skipped = skipped_steps(self.model)
            self.report.logged(self.current_iter, losses, rates, skipped)
        done = self.current_iter - self.first_iter
        left = (time.time() - self.started) / done * (self.total_iter - done)
        eta = datetime.timedelta(seconds=int(left))
        text = " ".join(f"{name}: {value:.4e}" for name, value in losses.items())
        logger.info(
            "[%s..][epoch:%3d, iter:%8s, lr:(%s)] [eta: %s, time (data): %.3f (%.3f)] "
            "%s",
            self.options.name[:5],
            self.stream.epoch_of(self.current_iter - 1),
            f"{self.current_iter:,}",
            "".join(f"{rate:.3e}," for rate in rates),
            eta,
            step_time,
            data_time,
            text,
        )
        bar.set_postfix({n: f"{v:.3e}" for n, v in losses.items()}, refresh=False)
        if self.tb_logger:
            for name, value in losses.items():
                tag = f"losses/{name}" if name.startswith("l_") else name
                self.tb_logger.add_scalar(tag, value, self.current_iter)
            self.tb_logger.add_scalar("lr", rates[0], self.current_iter)
