"""One module per box of the page, each a pure function of the overview: `render(overview) -> Markup`."""
