"""The page that calls an agent from the browser, and its signalling."""
