"""What of BasicSR is replaced, why, and how to see that it still has to be.

A target is `module:attribute`, or a module that is gone and has a stand-in. Several
targets share a row where one fault stands in several places. Replacements and probes
are named, not imported, so that the table costs nothing to read.
"""

from __future__ import annotations

from dataclasses import dataclass

BASE = "basicsr.models.base_model:BaseModel"
SR = "basicsr.models.sr_model:SRModel"
REALNET = "basicsr.models.realesrnet_model"
REALGAN = "basicsr.models.realesrgan_model"
DATA = "basicsr.data"


@dataclass(frozen=True)
class Patch:
    """One repair of the host.

    Attributes:
        targets: What is replaced.
        replacement: `module:name` below `paragon_archs.host`.
        reason: What the host does, in one sentence.
        probe: Function of `host.repairs.probes`: whether what it gets is broken.
        wraps: Whether the replacement is made from the host's own, which it is given.
        package: What has to be installed for the row to matter.
    """

    targets: tuple[str, ...]
    replacement: str
    reason: str
    probe: str
    wraps: bool = False
    package: str = "basicsr"


MODULES: tuple[Patch, ...] = (
    Patch(
        ("torchvision.transforms.functional_tensor",),
        "modules:functional_tensor",
        "BasicSR imports a module that torchvision 0.17 removed.",
        "is_absent",
        package="torchvision",
    ),
    Patch(
        ("distutils.version",),
        "modules:distutils_version",
        "BasicSR imports a module that Python 3.12 removed.",
        "is_absent",
    ),
    Patch(
        ("scipy.ndimage.filters",),
        "modules:ndimage_filters",
        "BasicSR imports a module that SciPy 2 removes.",
        "is_absent",
        package="scipy",
    ),
)
"""Applied before BasicSR is imported, wherever it is imported."""

PATCHES: tuple[Patch, ...] = (
    Patch(
        (f"{BASE}.model_to_device",),
        "repairs.model:Repaired.model_to_device",
        "It asks for a GPU when several processes train on CPUs.",
        "processes_need_a_gpu",
    ),
    Patch(
        (f"{BASE}.get_optimizer",),
        "repairs.model:Repaired.get_optimizer",
        "It knows Adam alone.",
        "knows_adam_alone",
    ),
    Patch(
        (f"{BASE}.setup_schedulers",),
        "repairs.model:Repaired.setup_schedulers",
        "It knows three schedules, and fails without one.",
        "fails_without_a_schedule",
    ),
    Patch(
        (f"{BASE}.update_learning_rate",),
        "repairs.model:Repaired.update_learning_rate",
        "After a warm-up the rate stays below the one given.",
        "warm_up_falls_short",
    ),
    Patch(
        (f"{BASE}.model_ema",),
        "repairs.model:Repaired.model_ema",
        "The average keeps the first statistics of every normalization.",
        "average_forgets_buffers",
    ),
    Patch(
        (f"{BASE}.reduce_loss_dict",),
        "repairs.model:Repaired.reduce_loss_dict",
        "A loss that is NaN trains on to the end.",
        "nan_trains_on",
    ),
    Patch(
        (f"{BASE}.save_network",),
        "repairs.model:Repaired.save_network",
        "A checkpoint that cannot be written is ignored, or cut off.",
        "ignores_a_full_disk",
    ),
    Patch(
        (f"{BASE}.load_network",),
        "repairs.model:Repaired.load_network",
        "It reads no safetensors and no weights without its own wrapping.",
        "wants_its_own_wrapping",
    ),
    Patch(
        (f"{BASE}.save_training_state",),
        "repairs.model:Repaired.save_training_state",
        "Its states hold no weights, no random numbers and no position.",
        "writes_states_without_weights",
    ),
    Patch(
        (f"{BASE}.resume_training",),
        "repairs.model:Repaired.resume_training",
        "A resumed run starts from other weights and keeps the old schedule.",
        "resumes_without_weights",
    ),
    Patch(
        (f"{SR}.nondist_validation",),
        "repairs.validation:validate",
        "Results of images that share a stem overwrite each other.",
        "results_overwrite_each_other",
    ),
    Patch(
        (f"{SR}.dist_validation",),
        "repairs.validation:validate",
        "Of several processes only the first validates, and the others time out.",
        "first_process_validates_alone",
    ),
    Patch(
        (
            "basicsr.models.video_base_model:VideoBaseModel.dist_validation",
            "basicsr.models.video_recurrent_model:VideoRecurrentModel.dist_validation",
        ),
        "repairs.validation:with_results_in_place",
        "Validation of videos asks for a GPU, and takes one data set only.",
        "videos_need_a_gpu",
        wraps=True,
    ),
    Patch(
        ("basicsr.models.video_recurrent_model:VideoRecurrentModel.feed_data",),
        "repairs.validation:with_views",
        "On a CPU, a clip loses its batch dimension before it is validated.",
        "clips_lose_their_batch",
        wraps=True,
    ),
    Patch(
        ("basicsr.metrics.niqe:niqe",),
        "repairs.validation:or_nan",
        "NIQE of an image below two blocks ends with an error of linear algebra.",
        "niqe_needs_two_blocks",
        wraps=True,
    ),
    Patch(
        (
            f"{DATA}.ffhq_dataset:imfrombytes",
            f"{DATA}.paired_image_dataset:imfrombytes",
            f"{DATA}.realesrgan_dataset:imfrombytes",
            f"{DATA}.realesrgan_paired_dataset:imfrombytes",
            f"{DATA}.single_image_dataset:imfrombytes",
        ),
        "repairs.reading:imfrombytes",
        "Images of 16 bits are read as 8, and cut-off ones as whole.",
        "reads_8_of_16_bits",
    ),
    Patch(
        (f"{DATA}.paired_image_dataset:paired_paths_from_meta_info_file",),
        "repairs.reading:paired_paths",
        "Names in a meta-info file are cut at the first blank.",
        "cuts_paired_names",
    ),
    Patch(
        (f"{DATA}.realesrgan_dataset:RealESRGANDataset.__init__",),
        "repairs.reading:with_listed_gt",
        "Names in a meta-info file are cut at the first blank.",
        "cuts_gt_names",
        wraps=True,
    ),
    Patch(
        (f"{DATA}.single_image_dataset:SingleImageDataset.__init__",),
        "repairs.reading:with_listed_lq",
        "Names in a meta-info file are cut at the first blank.",
        "cuts_lq_names",
        wraps=True,
    ),
    Patch(
        (f"{DATA}.degradations:add_jpg_compression",),
        "repairs.degradations:whole_quality",
        "OpenCV 5 takes whole numbers for the JPEG quality only.",
        "fails_at_a_fractional_quality",
        wraps=True,
    ),
    Patch(
        (
            f"{REALNET}:DiffJPEG",
            f"{REALNET}:USMSharp",
            f"{REALGAN}:DiffJPEG",
            f"{REALGAN}:USMSharp",
        ),
        "repairs.degradations:on_its_device",
        "It is put on a GPU even where there is none.",
        "module_needs_a_gpu",
        wraps=True,
    ),
    Patch(
        (
            f"{REALNET}:RealESRNetModel._dequeue_and_enqueue",
            f"{REALGAN}:RealESRGANModel._dequeue_and_enqueue",
        ),
        "repairs.degradations:dequeue_and_enqueue",
        "The pool of degraded pairs is put on a GPU even where there is none.",
        "pool_needs_a_gpu",
    ),
    Patch(
        (
            "basicsr.ops.fused_act.fused_act:fused_leaky_relu",
            "basicsr.archs.stylegan2_arch:fused_leaky_relu",
        ),
        "repairs.operators:fused_leaky_relu",
        "StyleGAN2's activation needs an extension that no wheel holds.",
        "activation_needs_an_extension",
        wraps=True,
    ),
    Patch(
        ("torch.nn:L2loss",),
        "repairs.degradations:MSELoss",
        "`criterion: l2` of the perceptual loss names a class that torch never had.",
        "is_absent",
    ),
    Patch(
        ("wandb.util:generate_id",),
        "modules:generate_id",
        "wandb moved the function that BasicSR asks for.",
        "is_absent",
        package="wandb",
    ),
)
"""Applied by our `basicsr` command; importing the pack applies none of them."""
