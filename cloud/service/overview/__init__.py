"""The read model behind the live page and `GET /api/v1/overview`: one consistent snapshot of the whole loop."""

from cloud.service.overview.shapes import Overview
from cloud.service.overview.snapshot import overview

__all__ = ["Overview", "overview"]
