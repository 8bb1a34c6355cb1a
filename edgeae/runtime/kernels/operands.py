"""Types of what a layer's kernel takes besides the image: the weight in any of its stored forms, and the activation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, TypeAlias

from tinygrad import Tensor

Activation: TypeAlias = Literal["relu", "sigmoid"] | None


class PackedWeight(ABC):
    """A weight that is kept in integers of `bits` bits with a scale, as in quantize.py."""

    bits: ClassVar[int]
    values: Tensor
    scale: Tensor

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight it stands for."""

    @abstractmethod
    def dequantize(self) -> Tensor:
        """The weight as a float32 expression."""


Weight: TypeAlias = Tensor | PackedWeight
