"""The report as one HTML file: no script, nothing from elsewhere; it prints, and follows the reader's dark mode."""
