"""The least that BentoML answers: what ``serving.py`` and ``ingest.py`` beside it compare the server with."""

from __future__ import annotations

from typing import Any

import bentoml

from serving.tape_requests import TradesRequest


@bentoml.service(name="bare", workers=1, traffic={"timeout": 15}, logging={"access": {"enabled": False}})
class Bare:
    """One endpoint that returns what it is told to, and one that reads trades and forgets them."""

    @bentoml.api(route="/bare")
    async def bare(self, size: int = 1) -> dict[str, Any]:
        """A text of that many bytes."""
        return {"text": "a" * size}

    @bentoml.api(route="/trades")
    async def trades(self, request: TradesRequest, /) -> dict[str, Any]:
        """How many there were."""
        return {"read": sum(len(block.id) for block in request.trades)}
