"""The export report as text and as an HTML page."""
