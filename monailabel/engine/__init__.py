"""The bundle's side of the server, run by the bundle's own Python; `lib` is MONAI Label's side."""
