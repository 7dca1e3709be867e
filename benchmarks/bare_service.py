"""The least that BentoML answers: what ``benchmarks/serving.py`` compares the server with."""

from __future__ import annotations

from typing import Any

import bentoml


@bentoml.service(name="bare", workers=1, traffic={"timeout": 15}, logging={"access": {"enabled": False}})
class Bare:
    """One endpoint that returns what it is told to."""

    @bentoml.api(route="/bare")
    async def bare(self, size: int = 1) -> dict[str, Any]:
        """A text of that many bytes."""
        return {"text": "a" * size}
