"""Makes `tests` a package of ours: torchstain installs one of the same name, which would hide a mere folder."""
