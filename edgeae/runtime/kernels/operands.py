"""Types of a layer's operands: the weight in any of its stored forms, and the activation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, TypeAlias

from tinygrad import Tensor

Activation: TypeAlias = Literal["relu", "sigmoid"] | None


class PackedWeight(ABC):
    """A weight that is stored in integers with scales, as quantize.py lays them out.

    Attributes:
        bits: of an integer, 8 or 4.
        values: the integers.
        scale: float32.
    """

    bits: ClassVar[int]
    values: Tensor
    scale: Tensor

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight that it represents."""

    @abstractmethod
    def dequantize(self) -> Tensor:
        """Return the weight as a float32 expression."""


Weight: TypeAlias = Tensor | PackedWeight
