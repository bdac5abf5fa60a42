"""Differentiation: forward and reverse from one rule per op, symbolic and finite as witnesses that share no rule."""

from __future__ import annotations
