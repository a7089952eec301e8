"""What the VLM's cross-entropy says beside that of its floors: a blind MLP, code frequencies and
shuffled images.
"""

import json
from dataclasses import dataclass
from pathlib import Path

IMAGE_COST_NATS = 0.05  # least rise of the cross-entropy when the images are those of other rows


@dataclass(frozen=True, slots=True)
class VlmVerdict:
    """Cross-entropies of the codes in nats on held-out rows."""

    vlm: float
    blind: float  # of an MLP that reads the same ego status, trained on the same rows
    frequencies: float  # of each slot's code frequencies on the same rows
    shuffled: float  # of the VLM with the images of other rows

    @property
    def beats_blind(self) -> bool:
        """True if the VLM predicts codes better than both floors that see no image."""
        return self.vlm < min(self.blind, self.frequencies)

    @property
    def images_matter(self) -> bool:
        """True if the VLM predicts codes worse with the images of other rows."""
        return self.shuffled - self.vlm >= IMAGE_COST_NATS

    @property
    def text(self) -> str:
        """One sentence for a person."""
        figures = (
            f"VLM on val logs: cross-entropy of the codes {self.vlm:.2f} nats, blind MLP "
            f"{self.blind:.2f}, code frequencies {self.frequencies:.2f}, with shuffled images "
            f"{self.shuffled:.2f}"
        )
        if self.beats_blind and self.images_matter:
            return figures
        blind = "blind MLP" if self.blind <= self.frequencies else "code frequencies"
        why = f"no better than the {blind}" if not self.beats_blind else "its images do not matter"
        return f"{figures}. WARNING: the VLM has learned little ({why})"


def read_verdict(vla: Path) -> VlmVerdict | None:
    """The verdict on a `vla` artefact; None if there is none or it has no floors."""
    file = vla / "report.json"
    report = json.loads(file.read_text()) if file.exists() else {}
    if "frequency_cross_entropy_nats" not in report:
        return None
    return VlmVerdict(
        report["codes"]["cross_entropy_nats"],
        report["blind_cross_entropy_nats"],
        report["frequency_cross_entropy_nats"],
        report["shuffled_cross_entropy_nats"],
    )
