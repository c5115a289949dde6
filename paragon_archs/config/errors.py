"""Everything that can be wrong with options and data, one sentence for each."""

from __future__ import annotations

import reprlib
import string
from collections.abc import Sequence

# Id -> sentence. `{place}` is the file and line; `{hint}` the nearest known name.
MESSAGES: dict[str, str] = {
    # reading
    "no_file": (
        "Expected -opt to be an option file, but got {name!r}, which is neither in "
        "this folder nor one of the pack's own. Check the path."
    ),
    "not_yaml": (
        "Expected {file!r} to be YAML, but {problem} ({place}). Fix that line."
    ),
    "not_text": (
        "Expected {file!r} to be YAML in UTF-8, but got {problem}. Save it as UTF-8."
    ),
    "no_mapping": (
        "Expected {file!r} to be an option file (keys and values), but got {kind}. "
        "Start from one of the pack's options."
    ),
    "force_form": (
        "Expected --force_yml to be key:path=value, but got {entry!r}. Write it like "
        "train:optim_g:lr=1e-4."
    ),
    "force_path": (
        "Expected --force_yml {entry} to name a key, but {where!r} is {kind} and has "
        "no {key!r}. Check the path."
    ),
    # keys
    "unknown_key": (
        "Expected {section} to hold known keys, but got {key!r} ({place}). {hint}"
    ),
    "other_model": (
        "Expected {section} to hold keys of {model}, but got {key!r} ({place}), which "
        "only {other} knows. Set model_type: {other} or leave it out."
    ),
    "missing_key": (
        "Expected {key!r} to be given, but it is not ({place}). Add it: {text}."
    ),
    "wrong_kind": (
        "Expected {key!r} to be {kind}, but got {value!r} ({place}). {hint}"
    ),
    "wrong_choice": (
        "Expected {key!r} to be one of {choices}, but got {value!r} ({place}). {hint}"
    ),
    "too_small": (
        "Expected {key!r} to be at least {low}, but got {value!r} ({place}). Raise it."
    ),
    "too_large": (
        "Expected {key!r} to be at most {high}, but got {value!r} ({place}). Lower it."
    ),
    "unknown_type": (
        "Expected {key!r} to be a known {what}, but got {value!r} ({place}). {hint}"
    ),
    "no_training": (
        "Expected 'datasets' to hold a set for {phase}, but got {got} ({place}). Add "
        "datasets:{phase}."
    ),
    "no_gpu": (
        "Expected 'num_gpu' to be at most the {count} GPUs of this machine, but got "
        "{value} ({place}). Set num_gpu: auto."
    ),
    "scale_differs": (
        "Expected {key!r} to equal scale ({scale}), but got {value} ({place}). Give "
        "both the same value."
    ),
    "channels_differ": (
        "Expected {key!r} to equal {network} ({wanted}), but got {value} ({place}). "
        "Give both the same value."
    ),
    "network": "Expected {key!r} to describe a network, but: {problem} ({place})",
    "model": "Expected the options to describe a model, but: {problem} ({place})",
    "no_step": (
        "Expected {key!r} to take a step, but: {problem} ({place}). Change its "
        "arguments or its type."
    ),
    "launcher": "{problem}",
    "stages": "{problem}",
    "running": (
        "Expected 'name' to be that of no running process, but got {value!r}, whose "
        "folder {folder!r} is held by {holder}. Wait for it, stop it, or give another "
        "name."
    ),
    "wandb_alone": (
        "Expected logger:use_tb_logger to be true beside logger:wandb:project, but got "
        "{value!r} alone ({place}). W&B copies what TensorBoard gets: turn it on."
    ),
    "no_package": (
        "Expected {package} to be installed for {key!r}, but it is not ({place}). Run "
        "pip install {package}, or leave the key out."
    ),
    # data
    "no_folder": (
        "Expected {key!r} to be an existing folder, but got {value!r} ({place}). Put "
        "the images there, or name another: --force_yml {key}=FOLDER."
    ),
    "no_data_file": (
        "Expected {key!r} to be an existing file, but got {value!r} ({place}). Check "
        "the path."
    ),
    "empty_folder": (
        "Expected {key!r} to hold images, but got {value!r} which has none "
        "({place}). BasicSR's own data sets do not search sub-folders; name the folder "
        "of the images."
    ),
    "empty_list": (
        "Expected {key!r} to name images, one a line, but got {value!r} with none "
        "({place}). Write their paths, relative to the data folder."
    ),
    "unlisted": (
        "Expected {key!r} to name existing images, but got {value!r}, which names "
        "{file!r} ({place}). Add that image or remove its line."
    ),
    "unpaired": (
        "Expected every image of {key!r} to have its partner, but got {file!r} without "
        "{partner!r} ({place}). Add it or remove the image."
    ),
    "unreadable": (
        "Expected {key!r} to hold images, but got {file!r}, which cannot be read "
        "({place}). Remove or replace it."
    ),
    "crop_scale": (
        "Expected {key!r} to be a multiple of scale ({scale}), but got {value} "
        "({place}). Take {near}."
    ),
    "too_small_image": (
        "Expected the images of {key!r} to be at least {crop} ({size}) wide and high, "
        "but got {file!r} with {width}x{height} ({place}). Lower {crop} or remove it."
    ),
    "pair_scale": (
        "Expected HR images to be {scale} times their LR, but got {file!r} with "
        "{width}x{height} for an LR of {lr_width}x{lr_height} ({place}). Check scale "
        "and the two folders."
    ),
    "same_name": (
        "Expected validation sets to have names of their own, but got {value!r} again "
        "for {key!r} ({place}). Rename one: results and checkpoints go by the name."
    ),
    "no_target": (
        "Expected {key!r} to have HR images for the metric {metric!r} to compare with, "
        "but a SingleImageDataset has none ({place}). Take another type, or leave such "
        "metrics out."
    ),
    "data_set": "Expected the data set {name!r} to be usable, but: {problem}",
    # weights and states
    "no_weights": (
        "Expected {key!r} to be a weight file or the name of a shipped model, but got "
        "{value!r}, which is neither ({place}). Check the path."
    ),
    "other_network": (
        "Expected {key!r} to hold weights of {wanted}, but got {value!r}, which holds "
        "{held} ({place}). {hint}"
    ),
    "other_scale": (
        "Expected {key!r} to hold weights for scale {wanted}, but got {value!r}, which "
        "holds a {network} for scale {held} ({place}). Set path:pretrain_scale: any to "
        "load all but the head."
    ),
    "no_state": (
        "Expected {key!r} to be a training state, but got {value!r}, which {problem} "
        "({place}). Name another or use --auto_resume."
    ),
    "other_state": (
        "Expected {value!r} to be a training state of these options, but {problem} "
        "({place}). Resume with the options that the run began with, or begin anew: "
        "path:pretrain_network_g takes its weights."
    ),
}


class OptionError(ValueError):
    """Wrong options or data; `sentences` holds one sentence for each mistake."""

    def __init__(self, *sentences: str) -> None:
        self.sentences: Sequence[str] = sentences
        super().__init__("\n".join(sentences))


class SectionError(ValueError):
    """A network's section that turns out wrong when the network is built."""

    def __init__(self, section: str, problem: Exception) -> None:
        self.section = section
        super().__init__(str(problem))


class TrainingError(RuntimeError):
    """Training cannot go on (exit code 1)."""


class _Shown(reprlib.Repr):
    """What `!r` shows of a value, cut to a readable length."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 200
        self.maxlist = self.maxdict = 6

    def repr_int(self, x: int, level: int) -> str:
        """Returns its digits; Python itself refuses to write very many."""
        return repr(x) if abs(x) < 10**40 else f"a number of {x.bit_length()} bits"


class _Brief(string.Formatter):
    _shown = _Shown()

    def convert_field(self, value: object, conversion: str | None) -> object:
        if conversion == "r":
            return self._shown.repr(value)
        return super().convert_field(value, conversion)


def sentence(message: str, **values: object) -> str:
    """Returns the sentence of one message id, filled in."""
    return _Brief().format(MESSAGES[message], **values).strip()


def wrong(message: str, **values: object) -> OptionError:
    """Returns the error of one message id, filled in."""
    return OptionError(sentence(message, **values))
