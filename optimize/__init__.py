"""From a trained network to what devices run: candidates, gates, and the graphs devices learn with."""
