"""From phrases to spans: where a phrase stands, and which of its occurrences is meant."""

from cattune.grounding.links import Grounding, check_occurrences, ground_links

__all__ = ["Grounding", "check_occurrences", "ground_links"]
