"""Skipwise: the short-video recommender that learns from what people skip."""

__version__ = "0.1.0"
