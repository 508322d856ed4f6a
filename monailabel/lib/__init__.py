"""MONAI Label's side of the server; `engine` is the bundle's side, in a process of its own."""
