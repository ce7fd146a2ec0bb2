"""The page: Gradio around :class:`visual_rft.app.answers.Models`. The only module that imports gradio.

Decision: nothing leaves the computer. Analytics are off, no public link is made, fonts are the system's, and the page
is served to 127.0.0.1 unless another host is named.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

# Read when gradio is imported: no usage report, no look-up of newer versions.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from visual_rft.app.answers import Models
from visual_rft.errors import ConfigError, VisualRFTError

FONTS = ("system-ui", "sans-serif")
SAFE_BUTTONS = ["download", "fullscreen"]
"""Of a picture; gradio's own list has one that uploads it."""


def make_page(models: Models, task: str | None = None) -> gr.Blocks:
    """The page.

    Args:
        models: who answers; one column each.
        task: chosen at first; None takes that of the first model.

    Raises:
        ConfigError: if there is no such task.
    """
    tasks = models.tasks
    if task is not None and task not in tasks:
        raise ConfigError(f"--task: {task!r} is not one of {', '.join(tasks)}")

    def answer(file: str | None, ask: str, chosen: str) -> list[Any]:
        try:
            shown = models.answer(None if file is None else Path(file), ask, chosen)
        except VisualRFTError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return [part for column in shown for part in column]

    with gr.Blocks(title="Visual-RFT", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        with gr.Row():
            picture = gr.Image(type="filepath", label="Picture", height=280)
            with gr.Column():
                ask = gr.Textbox(label="Ask for", placeholder="what to find, or what kind of thing to name")
                choice = gr.Dropdown(tasks, value=task or tasks[0], label="Task")
                button = gr.Button("Ask", variant="primary")
        columns: list[Any] = []
        with gr.Row():
            for name in models.askers:
                with gr.Column():
                    columns += [
                        gr.Image(label=name, type="pil", interactive=False, buttons=SAFE_BUTTONS),
                        gr.Markdown(),
                    ]
        for event, api in ((button.click, "ask"), (ask.submit, None)):
            event(
                answer, [picture, ask, choice], columns, api_name=api or "submit", concurrency_limit=1,
                concurrency_id="models",
            )  # fmt: skip
    return page


def serve(models: Models, task: str | None, host: str, port: int) -> None:
    """Serve the page until it is interrupted.

    Raises:
        ConfigError: if the task is not known, or the port is taken.
    """
    page = make_page(models, task)
    try:
        _, url, _ = page.launch(**launch_options(host, port), prevent_thread_lock=True)
    except OSError as error:
        raise ConfigError(f"--port {port}: cannot serve there ({error})") from None
    print(f"the page is at {url} ; Ctrl-C ends it", flush=True)
    page.block_thread()


def launch_options(host: str, port: int | None) -> dict[str, Any]:
    """How the page is served: to ``host`` alone, without a public link and without fonts from elsewhere."""
    theme = gr.themes.Default(font=FONTS, font_mono=("ui-monospace", "monospace"))
    here = {"server_name": host, "server_port": port, "share": False, "quiet": True}
    return {**here, "ssr_mode": False, "theme": theme}
