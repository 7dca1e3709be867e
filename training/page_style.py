"""How every page that this room writes looks; a page adds what its own tables need."""

from __future__ import annotations

from typing import Final

PAGE_STYLE: Final = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; }
body { max-width: 1320px; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .4rem; }
p { max-width: 62rem; margin: .3rem 0; } .reading { color: #555; } .facts { color: #555; font-size: .92rem; }
nav { font-size: .9rem; margin: .8rem 0; } nav a { margin-right: 1rem; color: #0b5cad; white-space: nowrap; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
"""
