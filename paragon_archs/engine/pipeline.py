"""A training run: data, model, log, checkpoints, validation, stop and resume.

It takes the place of the host's `train_pipeline` and keeps its folders, file names and
log lines.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import logging
import math
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from basicsr.data import build_dataloader
from basicsr.utils.logger import init_wandb_logger
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..config.check import has_base
from ..config.errors import TrainingError, wrong
from ..config.loading import Options
from ..data.stream import SampleStream, batches, preserved_rng, same_images
from ..utils.locks import Lock
from ..utils.processes import any_process
from ..utils.signals import StopRequest
from .folders import lock_of, make_folders, open_log, unheld, write_log
from .resuming import describe, differences
from .setup import build, build_set, join, together
from .stages import Stage, read_stages
from .state import newest_state, prune, read_state, save_state, set_rng_state
from .stopping import build_stopping, metric_value, new_bests

logger = logging.getLogger("basicsr")


FITTED_BATCHES = 24  # that train:fit_head looks at


@dataclasses.dataclass(frozen=True)
class Part:
    """Iterations `start` to `stop` (from 0) and the data that they see."""

    start: int
    stop: int
    dataset: Any
    stream: SampleStream
    section: dict[str, Any]


class Run:
    """One training run.

    Args:
        arguments: The command line.
        options: Checked options.
    """

    def __init__(self, arguments: argparse.Namespace, options: Options) -> None:
        self.opt = options.values
        self.options = options
        self.lock: Lock | None = None
        self.recorded = options.recorded
        self.given_seed = self.opt.get("manual_seed") is not None
        join(arguments, self.opt)
        open_log(self.opt)
        if self.opt["rank"] == 0:
            with unheld(self.opt):
                lock_of(self.opt).check()
        self.folder = Path(self.opt["path"]["training_states"])
        state = self.find_state()
        self.resumed = state is not None
        self.current_iter = int(state["iter"]) if state else 0
        self.build_data(state)
        self.build_model(state)
        if self.opt["rank"] == 0:
            self.lock = make_folders(self.opt, keep=self.resumed)
        together(self.opt)
        write_log(self.opt, options.file)
        self.tb_logger = self.open_tensorboard()

    def close(self) -> None:
        """Lets go of the run's folder."""
        if self.lock is not None:
            self.lock.release()

    # Setting up ------------------------------------------------------------------

    def find_state(self) -> dict[str, Any] | None:
        """Returns the training state to go on from, or None for a fresh run."""
        path = self.opt["path"]
        if self.opt["auto_resume"]:
            found = newest_state(self.folder)
            if found is not None:
                path["resume_state"] = str(found[0])
                return found[1]
        if path.get("resume_state"):
            try:
                return read_state(Path(path["resume_state"]))
            except ValueError as error:
                raise wrong(
                    "no_state",
                    key="path:resume_state",
                    value=path["resume_state"],
                    problem="is cut off, damaged or something else",
                    place=self.options.place(("path", "resume_state")),
                ) from error
        return None

    def build_data(self, state: dict[str, Any] | None) -> None:
        """Builds the data sets and the stream of training samples."""
        opt = self.opt
        self.val_loaders: list[Any] = []
        for section in opt["datasets"].values():
            dataset = build_set(section)
            if section["phase"] == "train":
                self.train_set, self.train_section = dataset, section
            elif section["phase"] == "val":
                loader = build_dataloader(dataset, section, sampler=None)
                self.val_loaders.append(loader)
        section = self.train_section
        self.stream = self.stream_of(self.train_set, section, opt["manual_seed"])
        opt["iterations_per_epoch"] = self.stream.iterations_per_epoch
        self.stages: list[Stage] = []
        epoch = self.stream.iterations_per_epoch
        if opt.get("stages") is not None:
            try:
                self.stages = read_stages(opt["stages"], epoch)
            except ValueError as error:
                raise wrong("stages", problem=error) from error
            opt["train"]["total_iter"] = self.stages[-1].stop
        self.total_iter = int(opt["train"]["total_iter"])
        self.check_position(state)
        self.parts = self.build_parts()
        logger.info(
            "Training: %d images, batch %d x %d processes, %.2f iterations per epoch, "
            "%d iterations, seed %d.",
            len(self.train_set),
            self.stream.batch,
            opt["world_size"],
            self.stream.iterations_per_epoch,
            self.total_iter,
            opt["manual_seed"],
        )

    def stream_of(
        self, dataset: Any, section: dict[str, Any], seed: int
    ) -> SampleStream:
        """Returns the stream of a training set's samples."""
        opt = self.opt
        accumulated = opt["train"].get("accum_iter") or 1
        gpus = 1 if opt["dist"] else max(1, opt["num_gpu"])
        return SampleStream(
            len(dataset),
            section["batch_size_per_gpu"] * accumulated * gpus,
            seed,
            opt["world_size"],
            opt["rank"],
            section.get("dataset_enlarge_ratio") or 1,
        )

    def build_parts(self) -> list[Part]:
        """Returns which data the iterations see: those of stages may differ."""
        whole = Part(
            0, self.total_iter, self.train_set, self.stream, self.train_section
        )
        parts = []
        for index, stage in enumerate(self.stages):
            part = dataclasses.replace(whole, start=stage.start, stop=stage.stop)
            if stage.data is not None:
                section = {
                    **stage.data,
                    "phase": "train",
                    "scale": self.opt.get("scale"),
                }
                dataset = same_images(self.train_set, section) or build_set(section)
                seed = self.opt["manual_seed"] + index
                stream = self.stream_of(dataset, section, seed)
                part = Part(stage.start, stage.stop, dataset, stream, section)
            parts.append(part)
        return parts or [whole]

    def position(self) -> dict[str, Any]:
        """Returns what a state says about the place in the data."""
        return {
            "seed": self.opt["manual_seed"],
            "global_batch": self.parts[0].stream.batch * self.opt["world_size"],
            "images": len(self.train_set),
            "stopping": self.stopping[0].state_dict() if self.stopping else None,
        }

    def check_position(self, state: dict[str, Any] | None) -> None:
        """Takes the seed of the resumed run; reports what makes it another one."""
        position = (state or {}).get("position")
        if not position:
            return
        wanted, seed = self.opt["manual_seed"], position["seed"]
        if self.given_seed and wanted != seed:
            logger.warning(
                "Resuming with the state's manual_seed %s instead of %s: the order of "
                "the samples goes on.",
                seed,
                wanted,
            )
        self.stream.seed = self.opt["manual_seed"] = seed
        now = {
            "global_batch": self.stream.batch * self.stream.world,
            "images": len(self.train_set),
        }
        for key, value in now.items():
            if value != position[key]:
                logger.warning(
                    "Resuming with %s %s instead of %s: the samples differ from those "
                    "of an uninterrupted run.",
                    key,
                    value,
                    position[key],
                )

    def report_changes(self, state: dict[str, Any]) -> None:
        """Logs one line for each option that differs from the state's."""
        if "options" not in state:
            logger.info("The state keeps no options; those of the option file count.")
            return
        for key, now, then in differences(state["options"], self.recorded):
            logger.warning(
                "Resuming with %s %s instead of %s.", key, describe(now), describe(then)
            )

    def build_model(self, state: dict[str, Any] | None) -> None:
        """Builds the model and brings it where the state left it."""
        opt = self.opt
        if state and "networks" not in state:
            self.take_host_weights(state)
        self.model: Any = build(self.options)
        self.ours = has_base(type(self.model), "ParagonModel")
        names = [loader.dataset.opt["name"] for loader in self.val_loaders]
        self.stopping = build_stopping(opt.get("val"), names)
        if state:
            try:
                self.model.resume_training(state)
            except (ValueError, KeyError) as error:
                lacks = f"it lacks {error}" if isinstance(error, KeyError) else error
                raise wrong(
                    "other_state",
                    value=opt["path"]["resume_state"],
                    problem=lacks,
                    place=self.options.place(("path", "resume_state")),
                ) from error
            if self.stopping and state.get("position", {}).get("stopping"):
                self.stopping[0].load_state_dict(state["position"]["stopping"])
            generators = state.get("rng", [])
            if opt["rank"] < len(generators):
                set_rng_state(generators[opt["rank"]])
            logger.info("Resuming after iteration %d.", self.current_iter)
            self.report_changes(state)

    def take_host_weights(self, state: dict[str, Any]) -> None:
        """A state of the host holds no weights: they lie beside it, in `models`."""
        path = self.opt["path"]
        folder = Path(path["resume_state"]).parent.parent / "models"
        for section in self.opt:
            if str(section).startswith("network_"):
                label = section.removeprefix("network_")
                file = folder / f"net_{label}_{state['iter']}.pth"
                path[f"pretrain_{section}"] = str(file)
                if path.get(f"param_key_{label}") == "params_ema":
                    path[f"param_key_{label}"] = "params"

    def open_tensorboard(self) -> Any:
        """Returns TensorBoard's writer, or None; a resumed run overwrites no step."""
        log = self.opt["logger"]
        if self.opt["rank"] != 0 or not log["use_tb_logger"]:
            return None
        if (log.get("wandb") or {}).get("project"):
            init_wandb_logger(self.opt)
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (slow)

        folder = Path(self.opt["path"]["experiments_root"], "tb_logger")
        purge = self.current_iter + 1 if self.resumed else None
        return SummaryWriter(str(folder), purge_step=purge)

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
                    code = self.loop(stop, bar)
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

    def loop(self, stop: StopRequest, bar: tqdm) -> int:
        """Runs iterations; returns the exit code."""
        if self.current_iter == 0 and self.opt["train"].get("fit_head"):
            count = min(FITTED_BATCHES, self.parts[0].stop)
            with contextlib.closing(self.batches_of(self.parts[0], 0, count)) as stream:
                self.model.fit_head(stream)
        for part in self.parts:
            if self.current_iter >= part.stop:
                continue
            self.stream = part.stream
            stream = self.batches_of(part, self.current_iter, part.stop)
            with contextlib.closing(stream):
                code = self.iterate(stream, stop, bar)
            if code or self.finished():
                return code
        return 0

    def batches_of(
        self, part: Part, start: int, stop: int
    ) -> Generator[dict[str, Any], None, None]:
        """Yields the batches of iterations `start` to `stop` (from 0)."""
        return batches(
            part.dataset, part.stream, start, stop, self.model.device, part.section
        )

    def iterate(
        self, stream: Iterable[dict[str, Any]], stop: StopRequest, bar: tqdm
    ) -> int:
        """Takes one step for every batch; returns the exit code."""
        opt, model = self.opt, self.model
        warmup = opt["train"].get("warmup_iter", -1)
        data_clock = time.time()
        for data in stream:
            data_time = time.time() - data_clock
            step_clock = time.time()
            self.current_iter += 1
            model.opt["current_iter"] = self.current_iter
            model.update_learning_rate(self.current_iter, warmup_iter=warmup)
            model.feed_data(data)
            model.optimize_parameters(self.current_iter)
            bar.update()
            if self.current_iter % opt["logger"]["print_freq"] == 0:
                self.log(time.time() - step_clock, data_time, bar)
            self.validate_and_save()
            asked = any_process(stop.number, opt["world_size"], model.device)
            if asked:
                self.save()
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

    def validate_and_save(self) -> None:
        """Does what is due after this iteration; the last one is always due."""
        val, last = self.opt.get("val"), self.current_iter >= self.total_iter
        frequency = self.opt["logger"]["save_checkpoint_freq"]
        if val and (self.current_iter % val["val_freq"] == 0 or last):
            try:
                self.validate()
            except BaseException:
                self.save()  # hours of training shall not go with a failed validation
                raise
        if self.current_iter % frequency == 0 or self.finished():
            self.save()

    def validate(self) -> None:
        """Validates every set, keeps the best weights, feeds the early stop."""
        val = self.opt["val"]
        for loader in self.val_loaders:
            with preserved_rng():
                self.model.validation(
                    loader, self.current_iter, self.tb_logger, val["save_img"]
                )
            name = loader.dataset.opt["name"]
            if val.get("save_best") and self.ours:
                for label in new_bests(self.model, name, self.current_iter):
                    self.model.save_released(label)
            values = {m: metric_value(self.model, m) for m in val.get("metrics") or ()}
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
        try:
            self.model.save(epoch, self.current_iter)
            save_state(
                self.folder,
                self.model,
                epoch,
                self.current_iter,
                self.position(),
                self.recorded,
            )
            if self.opt["rank"] == 0:
                keep = self.opt["logger"].get("keep_checkpoints") or 0
                prune(self.folder, Path(self.opt["path"]["models"]), keep)
        except OSError as error:
            raise TrainingError(
                f"Expected room for the checkpoint of iteration {self.current_iter}, "
                f"but writing it failed: {error}. Free some disk space and go on with "
                "--auto_resume."
            ) from error
        if self.ours:
            self.model.guard.remember()

    # Reporting -------------------------------------------------------------------

    @contextlib.contextmanager
    def progress(self) -> Iterator[tqdm]:
        """Yields a bar with ETA; silent where stderr is no terminal."""
        quiet = None if self.opt["rank"] == 0 else True
        with (
            tqdm(
                total=self.total_iter,
                initial=self.current_iter,
                unit="it",
                desc=self.opt["name"],
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
        if self.opt["rank"] != 0:
            return
        losses = self.model.get_current_log()
        rates = self.model.get_current_learning_rate()
        done = self.current_iter - self.first_iter
        left = (time.time() - self.started) / done * (self.total_iter - done)
        eta = datetime.timedelta(seconds=int(left))
        text = " ".join(f"{name}: {value:.4e}" for name, value in losses.items())
        logger.info(
            "[%s..][epoch:%3d, iter:%8s, lr:(%s)] [eta: %s, time (data): %.3f (%.3f)] "
            "%s",
            self.opt["name"][:5],
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
