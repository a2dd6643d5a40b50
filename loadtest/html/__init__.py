"""The report as one HTML file: no scripts, nothing fetched, everything escaped."""
