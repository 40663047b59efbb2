"""Networks somewhat smaller and larger than the planned one, to see whether its size is what holds it back."""

from __future__ import annotations

from autoseg.records import Configuration

#: Feature maps of each stage, in multiples of the planned ones. Weights go with their square: a quarter, and 2.25
#: times as many. Twice the features would cost four times the time of a step, and a short training hardly begin.
WIDTHS = {"smaller": 0.5, "larger": 1.5}


def scaled(configuration: Configuration, factor: float) -> Configuration:
    """The configuration with so many times the feature maps at every stage, the same patch, batch and depth.

    Scaled alike, stages that double stay so, which some networks demand.
    """
    features = tuple(max(2, round(factor * count)) for count in configuration.features_per_stage)
    return configuration.model_copy(update={"features_per_stage": features})
