"""Gradio's own variables, tied to the palette of assets/page.css, so that colours have one home."""

from __future__ import annotations

import gradio as gr

_VARIABLES = {
    "body_background_fill": "var(--paper)",
    "body_text_color": "var(--ink)",
    "body_text_color_subdued": "var(--faint)",
    "background_fill_primary": "var(--paper)",
    "background_fill_secondary": "var(--paper)",
    "block_background_fill": "transparent",
    "block_border_color": "transparent",
    "border_color_primary": "var(--line)",
    "border_color_accent": "var(--accent)",
    "border_color_accent_subdued": "var(--line)",
    "color_accent_soft": "var(--tint)",
    "link_text_color": "var(--accent)",
    "link_text_color_active": "var(--accent)",
    "link_text_color_hover": "var(--accent)",
    "link_text_color_visited": "var(--accent)",
    "input_background_fill": "transparent",
    "input_background_fill_focus": "transparent",
    "input_border_color": "transparent",
    "input_border_color_focus": "transparent",
    "input_placeholder_color": "var(--faint)",
    "code_background_fill": "var(--sheet)",
    "table_border_color": "var(--line)",
    "table_even_background_fill": "transparent",
    "table_odd_background_fill": "transparent",
    "button_secondary_background_fill": "transparent",
    "button_secondary_background_fill_hover": "var(--tint)",
    "button_secondary_text_color": "var(--ink)",
    "button_secondary_text_color_hover": "var(--ink)",
    "button_secondary_border_color": "var(--line)",
    "button_secondary_border_color_hover": "var(--line)",
}


def build() -> gr.themes.Base:
    """A theme without shadows, borders or fonts of its own; the fonts are those of the visitor's system."""
    theme = gr.themes.Base(font="sans-serif", font_mono="monospace")
    theme.set(color_accent="var(--accent)", **_VARIABLES, **{f"{name}_dark": value for name, value in _VARIABLES.items()})
    theme.font, theme.font_mono = "var(--sans)", "var(--mono)"
    return theme
