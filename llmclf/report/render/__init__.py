"""A grid of values as HTML, Markdown, CSV, LaTeX and on the terminal: one file each."""
