"""GET /metrics: every replica's numbers in Prometheus's text format."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from deployments.meters import Gather, exposition
from deployments.problems import PROBLEM

__all__ = ["metric_routes"]


def metric_routes(gather: Gather) -> APIRouter:
    """The route.

    Args:
        gather: The numbers of all replicas.
    """
    router = APIRouter(tags=["health"])

    @router.get(
        "/metrics",
        response_class=Response,
        responses={**PROBLEM, 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        """What is counted and timed, in every replica."""
        return Response(exposition(await gather()), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return router
