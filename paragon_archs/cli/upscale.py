"""`paragon upscale INPUT... -o OUT [--model FILE|NAME]`."""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.allocator import keep_freed_memory, return_freed_memory
from .common import (
    EXIT_DONE,
    EXIT_FAILED,
    Parser,
    guarded,
    new_output,
    parser,
    report,
    set_up_logging,
)
from .progress import add_progress, progress
from .startup import load_spandrel

if TYPE_CHECKING:
    from ..inference import Upscaler, WriteOptions
    from ..inference.jobs import Job, Sizing
    from ..inference.video import VideoOptions


def main(argv: Sequence[str] | None = None) -> int:
    """Upscales images, videos and folders of them."""
    options = flags().parse_args(argv)
    if options.memory.strip().lower() == "auto":
        keep_freed_memory()
    else:
        return_freed_memory()
    set_up_logging(options.verbose)
    return guarded(lambda: upscale(options))


def flags() -> Parser:
    """Returns the parser of the command."""
    arguments = parser(
        "upscale",
        "Upscales images and videos; INPUT is a file, a folder or a pattern.",
        "paragon upscale photo.jpg",
        "paragon upscale photos film.mkv -o upscaled --model 4xParagonSR_S.safetensors",
        "paragon upscale film.mkv -o film_x2.mkv --model paragonsr2_realtime_x2",
    )
    arguments.add_argument("input", nargs="+", help="image, video, folder or pattern")
    arguments.add_argument(
        "-o",
        "--output",
        help="file (one input) or folder (beside each input, as photo_x4.png)",
    )
    add_model_flags(arguments)
    arguments.add_argument(
        "--scale",
        type=int,
        choices=(2, 4),
        help="factor of the shipped model that is taken without --model (4)",
    )
    arguments.add_argument("--suffix", default="", help="added to names in a folder")
    arguments.add_argument("--overwrite", action="store_true", help="replace outputs")
    arguments.add_argument(
        "--compare",
        action="store_true",
        help="also write a page, beside the output, that compares it with bicubic",
    )
    arguments.add_argument(
        "--resume", action="store_true", help="skip what is done, go on in videos"
    )
    arguments.add_argument("--shard", default="1/1", help="K/N: every N-th job (1/1)")
    arguments.add_argument("--verbose", action="store_true", help="log what is done")
    add_progress(arguments)
    images = arguments.add_argument_group("images")
    images.add_argument(
        "--format", default="png", help="png, jpg, webp, tiff, avif, or keep (png)"
    )
    images.add_argument("--quality", type=int, default=95, help="1 to 100 (95)")
    images.add_argument("--lossless", action="store_true", help="WebP and AVIF")
    images.add_argument("--depth", type=int, choices=(8, 16), help="bits a value")
    images.add_argument("--compression", type=int, help="of PNG, 0 to 9 (the quickest)")
    arguments.add_argument("--scale-to", help="WxH that results are brought to")
    arguments.add_argument(
        "--downscale", type=float, help="make results smaller by this"
    )
    video = arguments.add_argument_group("video")
    video.add_argument(
        "--codec",
        metavar="NAME",
        help="libx264, libx265, libsvtav1, libvpx-vp9, ffv1, prores_ks, h264_nvenc, "
        "hevc_nvenc, av1_nvenc; auto: the card's where there is one (libx264)",
    )
    video.add_argument(
        "--decoder",
        choices=("cpu", "cuda", "auto"),
        default="cpu",
        help="an NVIDIA card's; auto: where there is one (%(default)s)",
    )
    video.add_argument("--crf", type=int, help="the encoder's quality, lower is better")
    video.add_argument("--preset", help="the encoder's preset")
    video.add_argument("--pix-fmt", help="like yuv420p (the source's chroma and depth)")
    video.add_argument(
        "--temporal",
        type=float,
        metavar="ALPHA",
        help="share of the frame before, ParagonSR2 only (0.2)",
    )
    video.add_argument("--no_temporal", "--no-temporal", action="store_true")
    video.add_argument("--batch", type=int, default=1, help="frames at once (1)")
    video.add_argument(
        "--deinterlace", action="store_true", help="make full frames of fields first"
    )
    video.add_argument(
        "--cuda-graph",
        action="store_true",
        help="ParagonSR2 on an NVIDIA card: one launch a frame (compare by paragon "
        "doctor --gpu)",
    )
    arguments.set_defaults(loaded=None)
    return arguments


def add_model_flags(arguments: argparse.ArgumentParser) -> None:
    """Adds the flags of the network: which one, where and how it runs."""
    arguments.add_argument(
        "--model",
        help="weights, .onnx, .trt or a shipped model's name (one to suit the input)",
    )
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    arguments.add_argument(
        "--dtype", default="auto", help="auto, fp32, fp16 or bf16 (auto)"
    )
    arguments.add_argument(
        "--memory", default="auto", help="most memory to take, like 4G (auto: free)"
    )
    arguments.add_argument(
        "--provider", help="of ONNX graphs: cpu, cuda, tensorrt, dml, coreml; or some"
    )
    arguments.add_argument(
        "--backend",
        default="auto",
        help="what runs the network on a CPU: torch, onnxruntime, openvino (auto: the "
        "fastest; its graph is made where the work ahead repays that)",
    )
    arguments.add_argument(
        "--compile", action="store_true", help="let torch compile the network"
    )
    arguments.add_argument(
        "--tta", action="store_true", help="average over the eight flips and turns"
    )


def upscale(options: argparse.Namespace) -> int:
    """Does what parsed flags ask for; `options.loaded` may hold a model already."""
    load_spandrel()
    from ..inference.jobs import parse_shard, plan, refusal, run

    write, sizing, video = _settings(options)
    # The model first: a wrong one leaves no folder behind.
    upscaler, chosen = _opened(options)
    jobs = plan(
        options.input,
        options.output,
        scale=upscaler.scale,
        format_=options.format,
        suffix=options.suffix,
        overwrite=options.overwrite,
        resume=options.resume,
        shard=parse_shard(options.shard),
        refuse=functools.partial(refusal, upscaler, write, sizing, video),
    )
    if chosen:
        print_line(options, chosen)
    report(*(named(job, job.refusal) for job in jobs if job.refusal))
    if not jobs:
        print_line(options, "nothing left to do")
        return EXIT_DONE
    _take_faster(options, upscaler, jobs, video.temporal)
    with progress(options):
        failed = run(upscaler, jobs, write, sizing, video, options.resume)
    return _finished(options, jobs, failed)


def _settings(
    options: argparse.Namespace,
) -> tuple[WriteOptions, Sizing, VideoOptions]:
    """Returns how results are written, how large, and how videos are."""
    from ..inference import WriteOptions
    from ..inference.jobs import Sizing
    from ..inference.video import VideoOptions

    if options.no_temporal and options.temporal is not None:
        raise ValueError(
            f"Expected one of --temporal and --no_temporal, but got "
            f"{options.temporal!r} and the other. Leave one out."
        )
    write = WriteOptions(
        options.quality, options.lossless, options.depth, options.compression
    )
    sizing = Sizing.parse(options.scale_to, options.downscale)
    video = VideoOptions(
        codec=options.codec,
        quality=options.crf,
        pixel_format=options.pix_fmt,
        preset=options.preset,
        temporal=0.0 if options.no_temporal else options.temporal,
        batch=options.batch,
        deinterlace=options.deinterlace,
        decoder=options.decoder,
        cuda_graph=options.cuda_graph,
    )
    return write, sizing, video


def _opened(options: argparse.Namespace) -> tuple[Upscaler, str]:
    """Returns the upscaler, and a line on its model where nobody has named one."""
    from ..inference import Upscaler
    from ..inference.choice import choose
    from ..weights import resolve

    if options.scale is not None and options.model is not None:
        raise ValueError(
            f"Expected one of --model, which has its scale, and --scale, but got "
            f"{options.model!r} and {options.scale}. Leave one out."
        )
    model, reason = options.model, ""
    if model is None:
        model, reason = choose(options.input, options.scale or 4)
    upscaler = Upscaler(
        options.loaded or resolve(model),
        device=options.device,
        dtype=options.dtype,
        memory=options.memory,
        tta=options.tta,
        providers=options.provider.split(",") if options.provider else (),
        compile_=options.compile,
        backend=options.backend,
    )
    if options.model is not None or options.loaded is not None:
        return upscaler, ""
    why = f"shipped, for {reason}" if reason else "shipped"
    return upscaler, f"model: {model} ({why}; --model takes another)"


def _finished(
    options: argparse.Namespace,
    jobs: Sequence[Job],
    failed: Sequence[tuple[Job, str]],
) -> int:
    """Prints what came of the jobs; returns the exit code."""
    if len(jobs) == 1 and not failed:
        print_line(options, f"wrote {jobs[0].output}")
    elif not failed:
        folders = {str(job.output.parent) for job in jobs}
        place = options.output or min(folders)
        print_line(options, f"wrote {len(jobs)} files to {place}")
    if options.compare:
        done = [job for job in jobs if job not in [bad for bad, _ in failed]]
        _write_page(options, [job for job in done if not job.is_video])
    new = [(job, reason) for job, reason in failed if not job.refusal]
    report(*(named(job, reason) for job, reason in new))
    if failed:
        rest = ", the others are done" if len(failed) < len(jobs) else ""
        report(f"{len(failed)} of {len(jobs)} inputs failed{rest}")
    return EXIT_FAILED if failed else EXIT_DONE


def _take_faster(
    options: argparse.Namespace,
    upscaler: Upscaler,
    jobs: Sequence[Job],
    temporal: float | None,
) -> None:
    """Takes a runtime that saves more time on the jobs than its graph costs."""
    from ..inference.temporal import ALPHA, carried
    from ..inference.workload import pixels_of
    from ..utils.symmetry import SYMMETRIES

    # No file is opened where no work, however long, would repay a graph.
    if not any(upscaler.worth_exporting(math.inf, video) for video in (False, True)):
        return
    pictures, frames = pixels_of(jobs)
    alpha = carried(upscaler, temporal)
    if alpha is None:
        pictures, frames = pictures + frames, 0.0
    elif alpha != ALPHA:
        frames = 0.0
    pictures *= SYMMETRIES if options.tta else 1
    for pixels, video in ((pictures, False), (frames, True)):
        backend = upscaler.worth_exporting(pixels, video)
        if backend is None:
            continue
        print_line(options, f"backend: {backend}; its graph is made first, once")
        try:
            upscaler.export(video)
        except Exception as error:  # of any exporter or runtime: torch goes on
            report(f"backend: torch instead ({error})")


def named(job: Job, reason: str) -> str:
    """Returns why a job failed, with its input, which the reason may name itself."""
    return reason if repr(str(job.source)) in reason else f"{job.source}: {reason}"


def print_line(options: argparse.Namespace, text: str) -> None:
    """Prints a line, unless the command is to be quiet."""
    if not options.quiet:
        print(text)


def _write_page(options: argparse.Namespace, jobs: Sequence[Job]) -> None:
    """Writes a page that compares results with bicubic, beside the first of them."""
    from ..evaluation import comparison, page

    if not jobs:
        return
    first = jobs[0].output
    target = first.with_suffix(".html")
    if len(jobs) > 1:
        target = Path(options.output or first.parent) / "compare.html"
    new_output(target, options.overwrite or options.resume)
    sets = []
    for job in jobs:
        before, after = (comparison.read_rgb(f) for f in (job.source, job.output))
        bicubic = comparison.bicubic_to(before, after.shape[:2])
        entries = [bicubic, page.Entry(job.output.name, after)]
        sets.append(comparison.compare(job.source.name, entries))
    title = f"{first.name} and bicubic" if len(jobs) == 1 else f"{len(jobs)} pictures"
    page.write(target, page.render(title, sets, comparison.MEASURES))
    print_line(options, f"wrote {target}")
