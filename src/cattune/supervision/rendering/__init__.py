"""Fields to one text, through the tokenizer's chat template or by concatenation, with a map of positions."""

from cattune.supervision.rendering.renderer import Renderer, render
from cattune.supervision.rendering.result import Piece, Rendering, TemplateError

__all__ = ["Piece", "Renderer", "Rendering", "TemplateError", "render"]
