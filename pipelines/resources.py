"""The resources of the definitions: the chain with the preset of its scale. Which chain: pipelines/environment.py."""

from assets.chain.chain import Chain, Preset
from pipelines.environment import Places, places_from


class PresetChain(Chain):
    """A chain whose configuration is the preset of its scale."""

    def preset(self) -> Preset:
        """See pipelines/presets.py, which is imported when a run needs it: it loads torch."""
        from pipelines.presets import preset

        return preset(self.scale)   # type: ignore[return-value]   # frozen, which the protocol cannot say


def chain_at(places: Places | None = None) -> PresetChain:
    """The chain at these places; by default those of the environment."""
    places = places or places_from()
    return PresetChain(scale=places.scale, source=places.source, raw=places.raw, lake_root=places.lake)
