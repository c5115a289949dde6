"""The page: one tab for a picture or a video, one for folders."""

from __future__ import annotations

import contextlib
import html
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ..media.paths import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ..weights import DEFAULTS, available
from .runs import Progress, Run, Settings

FORMATS = ("png", "jpg", "webp", "tiff", "avif", "keep")
DEVICES = ("auto", "cpu", "cuda", "mps")
AUTOMATIC = {f"x{scale}, to suit the input": scale for scale in sorted(DEFAULTS)[::-1]}
OWN = "a file of mine"
CRF = 16
# Gradio's own orange and grays have less contrast than WCAG AA asks for.
_COLORS = {
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_hover_dark": "*primary_800",
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
}
_CSS = """
progress { width: 100%; height: 1.2em }
button[role="tab"].selected { color: var(--body-text-color) }
:focus-visible { outline: 3px solid var(--color-accent) !important }
.error { color: var(--error-text-color, #b91c1c) }
"""


class App:
    """The page's state: which run belongs to which browser tab."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="paragon_ui_"))

    def close(self) -> None:
        """Stops every run and deletes the results that nobody saved."""
        for run in list(self.runs.values()):
            run.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self, session: str | None) -> None:
        """Stops the run of a tab, if it has one."""
        if (run := self.runs.get(session or "")) is not None:
            run.stop()

    def start(self, session: str | None, run: Run) -> Iterator[tuple[Run, str]]:
        """Yields a run and its state as HTML, the last one when it has ended."""
        self.stop(session)
        self.runs[session or ""] = run
        with run:
            yield run, bar(Progress())
            for progress in run.progress():
                yield run, bar(progress)
            yield run, ending(run)
        if self.runs.get(session or "") is run:
            del self.runs[session or ""]


def bar(progress: Progress) -> str:
    """Returns a progress bar with what is left, as HTML."""
    if progress.fraction is None:
        return "<label>Loading the model … <progress></progress></label>"
    left = "" if progress.eta is None else f", {_clock(progress.eta)} left"
    text = f"{progress.fraction:.0%}, {html.escape(progress.count)}{left}"
    value = f'<progress max="1" value="{progress.fraction}"></progress>'
    return f"<label>{text} {value}</label>"


def ending(run: Run) -> str:
    """Returns how a run ended, as HTML."""
    if run.stopped:
        return "Canceled; finished files are kept."
    if run.code == 0:
        notes = [m for m in run.messages if not m.startswith("wrote ")]
        return "<br>".join(["Done.", *map(html.escape, notes)])
    return failure("\n".join(run.messages) or "The run failed.")


def failure(text: str) -> str:
    """Returns what went wrong, as HTML."""
    lines = html.escape(text).replace("\n", "<br>")
    return f'<span class="error" role="alert">{lines}</span>'


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def build(app: App) -> Any:
    """Returns the page as Gradio's `Blocks`."""
    with gr.Blocks(title="paragon_archs", analytics_enabled=False) as page:
        gr.Markdown("# Upscale pictures and videos")
        with gr.Row():
            with gr.Column(scale=1):
                settings = _settings()
            with gr.Column(scale=3):
                with gr.Tab("Picture or video"):
                    _single(app, settings)
                with gr.Tab("Folder"):
                    _batch(app, settings)

        def leave(request: gr.Request) -> None:
            app.stop(request.session_hash)

        page.unload(leave)
    return page


def _settings() -> list[Any]:
    """Adds the controls whose values make `Settings`, in the order of `_read`."""
    models = [*AUTOMATIC, *available(), OWN]
    model = gr.Dropdown(models, value=models[0], label="Model")
    file = gr.File(label="Weight file, .onnx or .trt", visible=False, type="filepath")
    model.change(lambda name: gr.update(visible=name == OWN), model, file)
    format_ = gr.Dropdown(list(FORMATS), value="png", label="Picture format")
    quality = gr.Slider(1, 100, 95, step=1, label="Quality of JPEG, WebP and AVIF")
    scale_to = gr.Textbox("", label="Resize the result to", placeholder="1920x1080")
    crf = gr.Slider(0, 51, CRF, step=1, label="Video quality (crf, lower is better)")
    with gr.Accordion("Device and memory", open=False):
        device = gr.Dropdown(list(DEVICES), value="auto", label="Device")
        memory = gr.Textbox(
            "", label="Memory limit", placeholder="4G; empty: what is free"
        )
        tta = gr.Checkbox(False, label="Average over eight flips and turns (slow)")
    return [model, file, format_, quality, scale_to, crf, device, memory, tta]


def _read(
    model: str,
    file: str | None,
    format_: str,
    quality: float,
    scale_to: str,
    crf: float,
    device: str,
    memory: str,
    tta: bool,
) -> Settings:
    if model == OWN and not file:
        raise ValueError("Expected a weight file, but got none. Drop one on the left.")
    scale = AUTOMATIC.get(model)
    return Settings(
        model="" if scale else str(file) if model == OWN else model,
        scale=scale,
        device=device,
        memory=memory,
        format=format_,
        quality=quality,
        scale_to=scale_to,
        tta=tta,
        crf=None if crf == CRF else crf,  # each codec has its own default
    )


def _single(app: App, settings: list[Any]) -> None:
    endings = sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES)
    source = gr.File(label="Picture or video", file_types=endings, type="filepath")
    with gr.Row():
        go = gr.Button("Upscale", variant="primary")
        cancel = gr.Button("Cancel")
    status = gr.HTML(label="State")
    slider = gr.ImageSlider(
        label="Before and after", interactive=False, type="filepath", visible=False
    )
    result = gr.File(label="Result", interactive=False, visible=False)

    def work(request: gr.Request, path: str | None, *values: Any) -> Iterator[Any]:
        if not path:
            yield failure("Drop a picture or a video first."), shown(), shown()
            return
        try:
            chosen = _read(*values)
        except ValueError as error:
            yield failure(str(error)), shown(), shown()
            return
        file = Path(path)
        folder = Path(tempfile.mkdtemp(dir=app.folder))
        run = Run([file], folder, chosen, ["--suffix=_upscaled"])
        for one, text in app.start(request.session_hash, run):
            made = [p for p in folder.iterdir() if p.name[0] != "."]
            if one.code != 0 or not made:
                yield text, shown(), shown()
            elif file.suffix.lower() in VIDEO_SUFFIXES:
                yield text, shown(), shown(str(made[0]))
            else:
                pair = (str(file), str(made[0]))
                yield text, shown(pair), shown(str(made[0]))

    go.click(work, [source, *settings], [status, slider, result])
    cancel.click(_stopper(app))


def shown(value: object = None) -> Any:
    """Returns a component's new value; without one it is not there."""
    return gr.update(value=value, visible=value is not None)


def _batch(app: App, settings: list[Any]) -> None:
    source = gr.Textbox("", label="Folder with pictures and videos")
    output = gr.Textbox("", label="Folder for the results")
    resume = gr.Checkbox(True, label="Skip what is done already")
    with gr.Row():
        go = gr.Button("Upscale the folder", variant="primary")
        cancel = gr.Button("Cancel")
    status = gr.HTML(label="State")

    def work(
        request: gr.Request, folder: str, target: str, again: bool, *values: Any
    ) -> Iterator[str]:
        try:
            chosen = _read(*values)
            if not folder.strip() or not target.strip():
                raise ValueError("Expected two folders, but got one or none.")
        except ValueError as error:
            yield failure(str(error))
            return
        more = ["--resume"] if again else []
        inputs = [Path(folder.strip()).expanduser()]
        run = Run(inputs, Path(target.strip()).expanduser(), chosen, more)
        for _, text in app.start(request.session_hash, run):
            yield text

    go.click(work, [source, output, resume, *settings], status)
    cancel.click(_stopper(app))


def _stopper(app: App) -> Any:
    def stop(request: gr.Request) -> None:
        app.stop(request.session_hash)

    return stop


def serve(port: int | None, open_browser: bool) -> None:
    """Serves the page on the loopback interface until it is interrupted.

    Raises:
        ValueError: when the port is taken, or none that a user may listen on.
    """
    app = App()
    theme = gr.themes.Default(  # pyright: ignore[reportPrivateImportUsage]
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"]
    ).set(**_COLORS)
    try:
        _, address, _ = build(app).launch(
            server_name="127.0.0.1",
            server_port=port,
            inbrowser=open_browser,
            share=False,
            theme=theme,
            css=_CSS,
            footer_links=[],
            allowed_paths=[str(app.folder)],
            quiet=True,
            prevent_thread_lock=True,
        )
        print(f"The page is at {address} (Ctrl-C ends it).", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"Expected a free port, but got {port or 'none'}: it is taken, or not "
            "allowed. Choose another from 1024 to 65535."
        ) from error
    finally:
        app.close()
