"""Stores of both kinds, as the tests of serving have them."""

from tests.serving.conftest import redis_server, store

__all__ = ["redis_server", "store"]
