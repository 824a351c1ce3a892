"""DNS of a sandbox: allowed names get addresses of ours, everything else is refused on the spot."""
