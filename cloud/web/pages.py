"""The live page: boxes of plain HTML made from the overview once a second, and one chart. Only what changed is sent."""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from nicegui import ui
from starlette.requests import Request
from starlette.responses import RedirectResponse

from cloud.service.overview.shapes import Overview
from cloud.web.gate import Door, ViewGate
from cloud.web.markup import Markup
from cloud.web.sections import banner, candidates, devices, federated, history, loop, quality, rollout

PATH = "/live"
REFRESH_S = 1.0

ReadOverview = Callable[[], Awaitable[Overview]]
Render = Callable[[Overview], Markup]


def mount(app: FastAPI, read_overview: ReadOverview, door: Door, storage_secret: str) -> None:
    """Serve the page at `PATH` of `app`, which must not have started yet; `/` leads there.

    `door` says whose API keys open it, `storage_secret` signs the cookies that they are traded for.
    """

    @ui.page("/", title="Fleetloop")
    async def live() -> None:
        await _Page(read_overview).build()

    async def to_page(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{PATH}/?{request.url.query}" if request.url.query else f"{PATH}/", 303)

    app.add_route("/", to_page, include_in_schema=False)
    ui.run_with(app, mount_path=PATH, title="Fleetloop", tailwind=False, show_welcome_message=False)
    app.add_middleware(ViewGate, path=PATH, door=door, secret=storage_secret)


class _Page:
    """One viewer's page."""

    def __init__(self, read_overview: ReadOverview) -> None:
        self._read = read_overview
        self._boxes: list[tuple[ui.html, Render]] = []
        self._chart: ui.echart | None = None
        self._curve: dict[str, Any] = {}

    async def build(self) -> None:
        """Lay the page out with the present overview and keep it fresh."""
        overview = await self._read()
        ui.add_css(files("cloud.web").joinpath("static/page.css").read_text("utf-8"))
        ui.query(".nicegui-content").classes("page")
        with ui.element("main"):
            self._boxes_of(overview, banner.render, loop.render)
            with ui.element("div").classes("columns"):
                with ui.element("div").classes("column-left"):
                    self._boxes_of(overview, devices.render, rollout.render, candidates.render, history.lineage)
                with ui.element("div").classes("column-right"):
                    self._boxes_of(overview, quality.render)
                    self._federated(overview)
                    self._boxes_of(overview, history.events)
        ui.timer(REFRESH_S, self.refresh)

    def _boxes_of(self, overview: Overview, *renders: Render) -> None:
        # Every text in them went through `markup`, which escapes; the client need not sanitise again.
        self._boxes += [(ui.html(render(overview), sanitize=False), render) for render in renders]

    def _federated(self, overview: Overview) -> None:
        with ui.element("section").classes("card federated"):
            self._boxes_of(overview, federated.render)
            self._curve = federated.curve(overview)
            self._chart = ui.echart(self._curve, renderer="svg").classes("curve")
            self._chart.set_visibility(bool(overview.federated))

    async def refresh(self) -> None:
        """Redraw the boxes whose HTML changed."""
        overview = await self._read()
        for box, render in self._boxes:
            content = render(overview)
            if content != box.content:
                box.set_content(content)
        curve = federated.curve(overview)
        if self._chart is not None and curve != self._curve:
            self._curve = curve
            self._chart.options.update(curve)
            self._chart.set_visibility(bool(overview.federated))
            self._chart.update()
